//go:build purego

package kernel

func tables() []*table { return []*table{&portable} }

func missing() string { return "built with the purego tag, which leaves out all assembly" }
