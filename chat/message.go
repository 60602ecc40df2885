package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ardanlabs/jinja"
)

// Message is one turn of a conversation: its role, what is said, and whatever else a template may look at, such as tool_calls.
type Message struct {
	Role, Content string
	// Extra are the other fields in their order. A content that is no string (null, or a list of parts) is one of them.
	Extra []Field
	order []string // the names of all fields as they were read; nil: role, content, extra
}

// Field is a named JSON value.
type Field struct {
	Name  string
	Value json.RawMessage
}

// fields lists a message's fields as a template sees them.
func (m *Message) fields() ([]Field, error) {
	order := m.order
	if order == nil {
		order = []string{"role", "content"}
	}
	var all []Field
	for _, name := range order {
		switch name {
		case "role":
			all = append(all, Field{name, encodeString(m.Role)})
		case "content":
			all = append(all, Field{name, encodeString(m.Content)})
		default:
			all = append(all, Field{Name: name})
		}
	}
	for _, f := range m.Extra {
		i := slices.IndexFunc(all, func(x Field) bool { return x.Name == f.Name })
		switch {
		case f.Name == "role":
			return nil, errors.New("role stands among the other fields")
		case i < 0:
			all = append(all, f)
		case f.Name == "content" && m.Content != "": // somebody gave it a text
		default:
			all[i].Value = f.Value
		}
	}
	return slices.DeleteFunc(all, func(f Field) bool { return f.Value == nil }), nil
}

func encodeString(s string) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string has a JSON form
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// MarshalJSON writes the fields in their order.
func (m Message) MarshalJSON() ([]byte, error) {
	fields, err := m.fields()
	if err != nil {
		return nil, err
	}
	b := []byte{'{'}
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, encodeString(f.Name)...), ':')
		b = append(b, f.Value...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads an object with a role.
func (m *Message) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("a message is not a JSON object")
	}
	*m = Message{order: []string{}}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name := t.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if slices.Contains(m.order, name) {
			return fmt.Errorf("a message has %s twice", name)
		}
		m.order = append(m.order, name)
		var into *string
		switch name {
		case "role":
			into = &m.Role
		case "content":
			into = &m.Content
		}
		switch {
		case into != nil && raw[0] == '"':
			if err := json.Unmarshal(raw, into); err != nil {
				return err
			}
		case name == "role":
			return errors.New("the role of a message is not a string")
		default:
			m.Extra = append(m.Extra, Field{name, raw})
		}
	}
	if !slices.Contains(m.order, "role") {
		return errors.New("a message has no role")
	}
	return nil
}

// value returns the message as the engine sees it.
func (m *Message) value() (jinja.Value, error) {
	fields, err := m.fields()
	if err != nil {
		return jinja.Undefined(), err
	}
	v := jinja.NewDict()
	for _, f := range fields {
		var x jinja.Value
		switch {
		case f.Name == "role":
			x = jinja.NewString(m.Role)
		case f.Name == "content" && f.Value[0] == '"':
			x = jinja.NewString(m.Content)
		default:
			if x, err = decodeValue(f.Value); err != nil {
				return v, fmt.Errorf("%s: %w", f.Name, err)
			}
		}
		v.AsDict().Set(f.Name, x)
	}
	return v, nil
}
