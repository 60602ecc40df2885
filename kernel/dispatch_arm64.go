//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// tables lists what this processor can run, slowest first: every arm64 processor has NEON.
func tables() []*table { return []*table{&portable, tableNEON()} }

// missing says which kernels are portable at the best level.
func missing() string {
	why := "portable at neon: convolutions, the state space step"
	if !cpu.ARM64.HasASIMDDP {
		why += "; q8 and q4 products do without SDOT, which this processor lacks"
	}
	return why
}

func tableNEON() *table {
	t := portable
	t.name, t.lanes = "neon", 4
	t.exp, t.expSum, t.max, t.sum, t.dot = expNEON, expSumNEON, maxNEON, sumNEON, dotNEON
	t.axpy, t.scale, t.mul, t.mulAdd = axpyNEON, scaleNEON, mulNEON, mulAddNEON
	t.silu, t.siluGrad, t.swiglu, t.swigluGrad = siluNEON, siluGradNEON, swigluNEON, swigluGradNEON
	t.softplus, t.adamw = softplusNEON, adamwNEON
	t.rmsNorm, t.rmsNormGrad = rmsNormBy(rmsNormRowNEON), rmsNormGradBy(rmsNormGradRowNEON)
	t.gatedRMSNorm, t.gatedRMSNormGrad = gatedRMSNormBy(gatedGroupNEON, nil), gatedRMSNormGradBy(gatedGroupGradNEON, nil)
	t.rope = ropeBy(ropeRowNEON, nil, nil)
	t.gemm, t.packPanel, t.mulPanels, t.mulPanel = gemmNEON, packPanelNEON, mulPanelsNEON, mulPanelNEON
	t.gemmBF16 = gemmRoundedNEON
	t.peak, t.peakFlops, t.stream = peakNEON, 24*2*4, func(p []byte) { streamNEON(&p[0], len(p)) }
	t.narrow = narrowNEON(cpu.ARM64.HasASIMDDP)
	return &t
}
