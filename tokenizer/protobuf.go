package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// field is a field of a protocol buffer message.
type field struct {
	number uint64
	value  uint64 // of varint and fixed fields
	bytes  []byte // of strings and messages
}

// eachField calls do for the fields of a message in the order of the file. Nothing is copied.
func eachField(data []byte, do func(field) error) error {
	for at := 0; at < len(data); {
		key, n := binary.Uvarint(data[at:])
		if n <= 0 {
			return errors.New("a protocol buffer's field is cut off")
		}
		at += n
		f := field{number: key >> 3}
		size := 0
		switch key & 7 {
		case 0:
			f.value, size = binary.Uvarint(data[at:])
			if size <= 0 {
				return fmt.Errorf("field %d is cut off", f.number)
			}
		case 1:
			size = 8
		case 2:
			length, n := binary.Uvarint(data[at:])
			if n <= 0 || length > uint64(len(data)-at-n) {
				return fmt.Errorf("field %d claims %d bytes, fewer are left", f.number, length)
			}
			at += n
			size = int(length)
			f.bytes = data[at : at+size]
		case 5:
			size = 4
		default:
			return fmt.Errorf("field %d has the wire type %d: not a SentencePiece model", f.number, key&7)
		}
		if size > len(data)-at {
			return fmt.Errorf("field %d is cut off", f.number)
		}
		switch key & 7 {
		case 1:
			f.value = binary.LittleEndian.Uint64(data[at:])
		case 5:
			f.value = uint64(binary.LittleEndian.Uint32(data[at:]))
		}
		at += size
		if err := do(f); err != nil {
			return err
		}
	}
	return nil
}
