package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"krait/model"
	"krait/safetensors"
	"krait/torchfile"
)

// Provenance is krait.json: how a checkpoint came to be.
type Provenance struct {
	Stage   string             `json:"stage"`
	Version string             `json:"version"`
	Config  json.RawMessage    `json:"config,omitempty"` // the stage's resolved configuration
	Inputs  []Input            `json:"inputs,omitempty"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
}

// Input names a file or directory that a stage read, by the hash of its content.
type Input struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Hash returns the Input for a file, or for a checkpoint directory (the hash of its weights).
func Hash(path string) (Input, error) {
	file := path
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		for _, name := range []string{safetensors.SingleName, safetensors.IndexName, torchfile.SingleName, torchfile.IndexName} {
			file = filepath.Join(path, name)
			if _, err := os.Stat(file); err == nil {
				break
			}
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return Input{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return Input{}, err
	}
	return Input{Path: path, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// maxShard is the size above which weights are cut into shards.
const maxShard = 5 << 30

// Partial is where a stage works on dir until dir is whole.
func Partial(dir string) string { return dir + ".partial" }

// planFile marks a partial directory that holds a stage's unfinished work, which can go on; see PlanPath.
const planFile = "plan.json"

// PlanPath returns where a stage describes what it is doing in dir.partial.
func PlanPath(dir string) string { return filepath.Join(Partial(dir), planFile) }

// Save writes a checkpoint directory. It is absent or whole: everything is written into dir.partial, synced, and renamed. A directory
// that is there already is refused, and so is one whose dir.partial holds a stage's unfinished work.
func Save(dir string, c *Checkpoint) error { return save(dir, c.WriteTo) }

// save makes dir of the files that write puts into a directory.
func save(dir string, write func(dir string) error) error {
	if err := RefuseExisting(dir); err != nil {
		return err
	}
	tmp := Partial(dir)
	if _, err := os.Stat(PlanPath(dir)); err == nil {
		return fmt.Errorf("%s holds the unfinished work of another stage: finish it, remove it or choose another name", tmp)
	}
	if err := os.RemoveAll(tmp); err != nil { // left by a Save that was killed: nothing of worth
		return err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	if err := write(tmp); err != nil {
		os.RemoveAll(tmp)
		return err
	}
	return Finish(dir)
}

// RefuseExisting reports an error if there is something at dir.
func RefuseExisting(dir string) error {
	_, err := os.Lstat(dir)
	if err == nil {
		return fmt.Errorf("%s exists already: remove it or choose another name", dir)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Finish turns dir.partial into dir.
func Finish(dir string) error {
	if err := syncDir(Partial(dir)); err != nil {
		return err
	}
	if err := os.Rename(Partial(dir), dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

// syncDir makes a directory's entries durable where the system can; where it cannot, the rename is still atomic.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = f.Sync() // not every system can sync a directory
	return nil
}

// WriteTo puts all files of the checkpoint into dir, each whole or absent.
func (c *Checkpoint) WriteTo(dir string) error {
	list, data := paramTensors(c.Model.Params, c.dtype())
	if err := safetensors.WriteSharded(dir, list, map[string]string{"format": "pt"}, maxShard, data); err != nil {
		return err
	}
	return c.writeFiles(dir)
}

// writeFiles writes all but the weights.
func (c *Checkpoint) writeFiles(dir string) error {
	config, err := c.formatConfig()
	if err != nil {
		return err
	}
	files := map[string][]byte{"config.json": config}
	for name, data := range c.Files {
		files[name] = data
	}
	if m := c.Model.Config.Mamba; m != nil && !m.Backbone {
		if files["mamba_config.json"], err = formatMamba(&c.Model.Config); err != nil {
			return err
		}
	}
	if c.Provenance != nil {
		if files["krait.json"], err = json.MarshalIndent(c.Provenance, "", "  "); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := WriteFile(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes a file that is absent, or as it was, or whole.
func WriteFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// New returns a checkpoint of a model that comes from no directory.
func New(m *model.Model) *Checkpoint { return &Checkpoint{Model: m, Files: map[string][]byte{}} }
