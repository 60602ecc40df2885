//go:build race

package sample

// The race detector makes sync.Pool forget at random.
const raceDetector = true
