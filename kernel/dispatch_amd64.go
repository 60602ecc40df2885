package kernel

import "golang.org/x/sys/cpu"

// tables lists what this processor can run, slowest first. A level starts as a copy of the portable table: what it does not override
// stays portable.
func tables() []*table {
	list := []*table{&portable}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasBMI2 {
		list = append(list, tableAVX2())
	}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL {
		list = append(list, tableAVX512())
	}
	return list
}

func tableAVX2() *table {
	t := portable
	t.name = "avx2"
	t.gemm, t.mulPanels, t.mulPanel = gemmAVX2, mulPanelsAVX2, mulPanelAVX2
	t.peak, t.peakFlops = peakAVX2, 24*2*8
	return &t
}

func tableAVX512() *table {
	t := portable
	t.name = "avx512"
	t.gemm, t.mulPanels, t.mulPanel = gemmAVX512, mulPanelsAVX512, mulPanelAVX512
	t.peak, t.peakFlops = peakAVX512, 24*2*16
	return &t
}
