package recipe

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"krait/checkpoint"
	"krait/train"
)

// eventsFile is what TensorBoard reads of a stage: one file, however often the stage is taken up again.
const eventsFile = "events.out.tfevents.0000000000.krait"

// eventWriter writes scalars in TensorBoard's form: TFRecords of Event messages (tensorboard/compat/proto/event.proto).
type eventWriter struct{ f *os.File }

// openEvents writes the events of the steps that metrics.jsonl has, and returns the file to go on with.
func (t *training) openEvents() (*eventWriter, error) {
	tmp := checkpoint.Partial(t.out)
	steps, err := ReadMetrics(tmp)
	if err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(tmp, eventsFile))
	if err != nil {
		return nil, err
	}
	w := &eventWriter{f}
	at := time.Now()
	for _, s := range steps {
		at = at.Add(-time.Duration(s.Seconds * float64(time.Second)))
	}
	err = w.version(at)
	for _, s := range steps {
		at = at.Add(time.Duration(s.Seconds * float64(time.Second)))
		err = errors.Join(err, w.step(s, at))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// Close closes the file.
func (w *eventWriter) Close() error { return w.f.Close() }

// version writes the event that begins a file.
func (w *eventWriter) version(at time.Time) error {
	return w.record(appendBytes(eventHead(at, 0), 3, []byte("brain.Event:2")))
}

// step writes a step's figures.
func (w *eventWriter) step(s train.Step, at time.Time) error {
	var summary []byte
	add := func(tag string, v float64) {
		value := appendBytes(nil, 1, []byte(tag))
		value = binary.LittleEndian.AppendUint32(append(value, 2<<3|5), math.Float32bits(float32(v)))
		summary = appendBytes(summary, 1, value)
	}
	if s.Skipped == "" {
		add("train/loss", s.Loss)
		add("train/grad_norm", s.GradNorm)
	}
	add("train/learning_rate", s.LR)
	add("train/num_tokens", float64(s.Total))
	if s.Seconds > 0 {
		add("train/tokens_per_second", float64(s.Tokens)/s.Seconds)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Parts)) {
		add("train/"+k, s.Parts[k])
	}
	if e := s.Eval; e != nil {
		for _, v := range []struct {
			tag   string
			value float64
		}{{"eval/loss", e.Loss}, {"eval/nll", e.NLL}, {"eval/kl", e.KL}, {"eval/top1", e.Top1}} {
			if v.value != 0 {
				add(v.tag, v.value)
			}
		}
	}
	return w.record(appendBytes(eventHead(at, s.Step), 5, summary))
}

// eventHead encodes an Event's wall_time and step.
func eventHead(at time.Time, step int) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{1<<3 | 1}, math.Float64bits(float64(at.Unix())+float64(at.Nanosecond())/1e9))
	if step != 0 {
		b = binary.AppendUvarint(append(b, 2<<3), uint64(step))
	}
	return b
}

// appendBytes appends a field of bytes.
func appendBytes(b []byte, field int, data []byte) []byte {
	b = append(b, byte(field<<3|2))
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the checksum of TFRecords.
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// record writes a TFRecord: length, its checksum, data, their checksum.
func (w *eventWriter) record(data []byte) error {
	length := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	b := binary.LittleEndian.AppendUint32(slices.Clone(length), maskedCRC(length))
	b = binary.LittleEndian.AppendUint32(append(b, data...), maskedCRC(data))
	_, err := w.f.Write(b)
	return err
}
