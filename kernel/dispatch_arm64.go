//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// tables lists what this processor can run, slowest first: every arm64 processor has NEON.
func tables() []*table { return []*table{&portable, tableNEON()} }

// missing says what this processor lacks, and is empty where it lacks nothing.
func missing() string {
	if !cpu.ARM64.HasASIMDDP {
		return "q8 and q4 products do without SDOT, which this processor lacks"
	}
	return ""
}

func tableNEON() *table {
	t := portable
	t.name = "neon"
	t.exp, t.expSum, t.max, t.sum, t.dot = expNEON, expSumNEON, maxNEON, sumNEON, dotNEON
	t.axpy, t.scale, t.mul, t.mulAdd = axpyNEON, scaleNEON, mulNEON, mulAddNEON
	t.silu, t.siluGrad, t.swiglu, t.swigluGrad = siluNEON, siluGradNEON, swigluNEON, swigluGradNEON
	t.softplus, t.adamw = softplusNEON, adamwNEON
	t.rmsNorm, t.rmsNormGrad = rmsNormBy(rmsNormRowNEON), rmsNormGradBy(rmsNormGradRowNEON)
	t.gatedRMSNorm, t.gatedRMSNormGrad = gatedRMSNormBy(gatedGroupNEON, nil), gatedRMSNormGradBy(gatedGroupGradNEON, nil)
	t.rope, t.ssdStep = ropeBy(ropeRowNEON, nil, nil), ssdStepVectors
	t.scanStep = scanStepBy(exp2By(expNEON, scaleNEON), mulNEON, axpyNEON)
	t.conv1D = conv1DBy(conv1D2NEON, conv1D3NEON, conv1D4NEON)
	t.conv1DGrad = conv1DGradBy(conv1DGrad2NEON, conv1DGrad3NEON, conv1DGrad4NEON)
	t.gemm, t.packPanel, t.transpose, t.mulPanels, t.mulPanel = gemmNEON, packPanelNEON, transposeNEON, mulPanelsNEON, mulPanelNEON
	t.gemmBF16 = gemmRoundedNEON
	t.peak, t.peakFlops, t.stream = peakNEON, 24*2*4, func(p []byte) { streamNEON(&p[0], len(p)) }
	t.narrow = narrowNEON(cpu.ARM64.HasASIMDDP, cpu.ARM64.HasI8MM)
	t.peakDot = dotPeaksNEON(cpu.ARM64.HasASIMDDP)
	t.toHalf, t.fromHalf = toHalfBy(toHalfNEON), fromHalfBy(fromHalfNEON)
	return &t
}
