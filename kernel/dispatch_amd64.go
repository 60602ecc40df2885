//go:build !purego

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

// missing says what this processor lacks for the next level, and is empty where it lacks nothing.
func missing() string {
	switch len(levels) {
	case 1:
		return "avx2 needs a processor with AVX2, FMA and BMI2"
	case 2:
		return "avx512 needs a processor with AVX-512 F, BW, DQ and VL"
	case 3:
		lacks := ""
		if !cpu.X86.HasAVX512VNNI {
			lacks = "without VNNI q8 and q4 products run at avx2"
		}
		if !cpu.X86.HasAVX512BF16 {
			if lacks != "" {
				lacks += ", "
			}
			lacks += "without AVX-512 BF16 bf16 products run at avx2"
		}
		return lacks
	}
	return ""
}

func tableAVX2() *table {
	t := portable
	t.name = "avx2"
	t.gemmBF16 = gemmRoundedAVX2
	t.gemm, t.packPanel, t.transpose, t.mulPanels, t.mulPanel = gemmAVX2, packPanelAVX2, transposeAVX2, mulPanelsAVX2, mulPanelAVX2
	t.exp, t.expSum, t.max, t.sum, t.dot = expAVX2, expSumAVX2, maxAVX2, sumAVX2, dotAVX2
	t.axpy, t.scale, t.mul, t.mulAdd = axpyAVX2, scaleAVX2, mulAVX2, mulAddAVX2
	t.silu, t.siluGrad, t.swiglu, t.swigluGrad = siluAVX2, siluGradAVX2, swigluAVX2, swigluGradAVX2
	t.softplus, t.adamw = softplusAVX2, adamwAVX2
	t.rmsNorm, t.rmsNormGrad = rmsNormBy(rmsNormRowAVX2), rmsNormGradBy(rmsNormGradRowAVX2)
	t.gatedRMSNorm = gatedRMSNormBy(gatedGroupAVX2, gatedRow8AVX2)
	t.gatedRMSNormGrad = gatedRMSNormGradBy(gatedGroupGradAVX2, gatedRow8GradAVX2)
	t.rope, t.ssdStep = ropeBy(ropeRowAVX2, ropeRowAVX2, ropeRow4), ssdStepVectors
	t.scanStep = scanStepVectors(t.scanStep)
	t.conv1D = conv1DBy(conv1D2AVX2, conv1D3AVX2, conv1D4AVX2)
	t.conv1DGrad = conv1DGradBy(conv1DGrad2AVX2, conv1DGrad3AVX2, conv1DGrad4AVX2)
	t.peak, t.peakFlops = peakAVX2, 24*2*8
	t.narrow, t.stream, t.peakDot = narrowAVX2(), streamVectorsAVX2, dotPeaksAVX2()
	t.toHalf, t.fromHalf = toHalfBy(toHalfAVX2), fromHalfBy(fromHalfAVX2)
	t.mulHalf, t.halfRows = mulHalfAVX2, 6
	return &t
}

func tableAVX512() *table {
	t := portable
	t.name = "avx512"
	t.gemmBF16 = gemmRoundedAVX512
	if cpu.X86.HasAVX512BF16 {
		t.gemmPairs, t.mulBrain, t.peakBF16 = gemmPairs, mulBrainPairs, peakBF16AVX512
		switch { // processors with AMX make half as many products with VDPBF16PS as with float32 (measured: Sapphire Rapids)
		case !cpu.X86.HasAMXBF16:
			t.gemmBF16 = gemmPairs
		case hasTiles():
			t.gemmBF16, t.peakTiles, t.tilesFlops = gemmTiles, peakTilesAMX, 12*2*8192
		}
	}
	t.gemm, t.packPanel, t.transpose, t.mulPanels, t.mulPanel = gemmAVX512, packPanelAVX512, transposeAVX512, mulPanelsAVX512, mulPanelAVX512
	t.exp, t.expSum, t.max, t.sum, t.dot = expAVX512, expSumAVX512, maxAVX512, sumAVX512, dotAVX512
	t.axpy, t.scale, t.mul, t.mulAdd = axpyAVX512, scaleAVX512, mulAVX512, mulAddAVX512
	t.silu, t.siluGrad, t.swiglu, t.swigluGrad = siluAVX512, siluGradAVX512, swigluAVX512, swigluGradAVX512
	t.softplus, t.adamw = softplusAVX512, adamwAVX512
	t.rmsNorm, t.rmsNormGrad = rmsNormBy(rmsNormRowAVX512), rmsNormGradBy(rmsNormGradRowAVX512)
	t.gatedRMSNorm = gatedRMSNormBy(gatedGroupAVX512, gatedRow8AVX512)
	t.gatedRMSNormGrad = gatedRMSNormGradBy(gatedGroupGradAVX512, gatedRow8GradAVX512)
	t.rope, t.ssdStep = ropeBy(ropeRowAVX512, ropeRowAVX2, ropeRow4), ssdStepVectors
	t.scanStep = scanStepVectors(t.scanStep)
	t.conv1D = conv1DBy(conv1D2AVX512, conv1D3AVX512, conv1D4AVX512)
	t.conv1DGrad = conv1DGradBy(conv1DGrad2AVX512, conv1DGrad3AVX512, conv1DGrad4AVX512)
	t.peak, t.peakFlops = peakAVX512, 24*2*16
	t.narrow, t.stream, t.peakDot = narrowAVX512(), streamVectorsAVX512, dotPeaksAVX512()
	t.toHalf, t.fromHalf = toHalfBy(toHalfAVX512), fromHalfBy(fromHalfAVX512)
	t.mulHalf, t.halfRows = mulHalfAVX512, 8
	return &t
}
