package kernel

import "testing"

func TestChooseLevel(t *testing.T) {
	best := Levels()[len(Levels())-1]
	for _, c := range []struct {
		name, want string
		fails      bool
	}{{"", best, false}, {"portable", "portable", false}, {best, best, false}, {"sse9", best, true}} {
		table, err := choose(c.name)
		if table.name != c.want || (err != nil) != c.fails {
			t.Errorf("choose(%q) = %s, %v; want %s", c.name, table.name, err, c.want)
		}
	}
	if SetLevel("sse9") == nil {
		t.Error("SetLevel accepted a level that does not exist")
	}
}
