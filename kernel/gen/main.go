// Command gen writes the kernels' assembly and its Go declarations. Each kernel is written once, for a vector level; what the levels
// do differently (width, masks, broadcasts from memory) is in level.go, and what arm64 does differently in the files arm64….go.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", ".", "directory to write the files kernel_….s and stubs_….go to")
	flag.Parse()
	for name, text := range generate() {
		if err := os.WriteFile(filepath.Join(*dir, name), []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// generate returns the text of every generated file by name.
func generate() map[string]string {
	g := newGen()
	for _, l := range []level{avx512, avx2} {
		g.level = l
		g.gemm()
		g.elementwise()
		g.norms()
		g.rope()
		g.scans()
		g.quantPanels()
		g.dotPeaks()
		g.halves()
		g.stream()
	}
	g.rope4()
	arm := newGen()
	arm.level = neonLevel
	arm.neonGemm()
	arm.elementwise()
	arm.norms()
	arm.rope()
	arm.neonScans()
	arm.neonQuant()
	arm.neonDotPeaks()
	arm.neonHalves()
	return map[string]string{
		"kernel_amd64.s": g.assembly(), "stubs_amd64.go": g.declarations(), "kernel_arm64.s": arm.assembly(), "stubs_arm64.go": arm.declarations(),
	}
}
