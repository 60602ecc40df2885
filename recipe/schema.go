package recipe

import (
	"encoding/json"
	"reflect"
	"slices"
)

// schema is a JSON schema, as much of it as recipes need.
type schema map[string]any

// Schema returns the JSON schema of recipes (draft 2020-12), made from the very types that recipes are read into.
func Schema() ([]byte, error) {
	properties := schema{}
	for name, v := range fieldsOf(&header{}) {
		properties[name] = schemaOf(v.Type())
	}
	var stages []schema
	for _, k := range kinds {
		s := schemaOf(reflect.TypeOf(k.config()).Elem())
		p := s["properties"].(schema)
		p["stage"] = schema{"const": k.name}
		p["name"] = schema{"type": "string"}
		s["required"], s["title"], s["description"] = []string{"stage"}, k.name, k.summary
		stages = append(stages, s)
	}
	properties["train"] = schemaOf(reflect.TypeOf(TrainConfig{}))
	properties["stages"] = schema{"type": "array", "items": schema{"oneOf": stages}}
	return json.MarshalIndent(schema{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Krait recipe", "type": "object",
		"properties": properties, "required": []string{"stages"}}, "", "  ")
}

// schemaOf describes a type as the decoder reads it.
func schemaOf(t reflect.Type) schema {
	switch t.Kind() {
	case reflect.Struct:
		properties := schema{}
		for name, v := range fields(reflect.New(t).Elem()) {
			properties[name] = schemaOf(v.Type())
		}
		for alias, names := range aliases {
			if i := slices.IndexFunc(names, func(n string) bool { return properties[n] != nil }); i >= 0 && properties[alias] == nil {
				properties[alias] = schema{"description": "another name for " + names[i]}
			}
		}
		for name, why := range noEffect {
			if properties[name] == nil {
				properties[name] = schema{"description": "no effect: " + why}
			}
		}
		return schema{"type": "object", "properties": properties, "additionalProperties": false}
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Slice:
		list := schema{"type": "array", "items": schemaOf(t.Elem())}
		if t.Elem().Kind() == reflect.Slice {
			return list
		}
		return schema{"anyOf": []schema{list, schemaOf(t.Elem()), {"const": "none"}}}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		return schema{"type": "integer"}
	case reflect.Uint64:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return schema{"type": "number"}
	}
	return schema{"type": "string"}
}
