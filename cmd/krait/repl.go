package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
)

// repl is a conversation that is typed.
type repl struct {
	*conversation
	lines    *lines
	terminal bool
	mu       sync.Mutex
	cancel   context.CancelFunc // ends the answer, nil while there is none
}

func newREPL(c *conversation, terminal bool) *repl { return &repl{conversation: c, terminal: terminal} }

const replHelp = `What can be typed:
  /set parameter NAME VALUE   temperature, top_p, top_k, min_p, seed, num_predict, speculate
  /set system TEXT            the system message
  /set verbose | quiet        say or do not say how fast it went
  /show info | parameters | template | system
  /save FILE, /load FILE      the conversation as JSON
  /clear                      forget what was said
  /bye                        leave (or Ctrl-D)
  /?                          this help
  """                         begins and ends a text of several lines
Ctrl-C ends an answer.
`

// run reads lines and answers them until the end of the input.
func (r *repl) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer r.interrupts(stop)()
	r.lines = newLines(ctx, r.ui, r.terminal)
	if r.terminal {
		r.ui.note("/? for help")
	}
	for {
		said, err := r.read()
		switch {
		case errors.Is(err, errInterrupted):
			r.ui.say("Ctrl-D or /bye to leave")
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		command := strings.TrimSpace(said)
		if command == "/bye" || command == "/exit" {
			return nil
		}
		if strings.HasPrefix(command, "/") && !strings.Contains(command, "\n") || strings.HasPrefix(command, "/set ") {
			err = r.command(command)
		} else if command != "" {
			err = r.answer(ctx, strings.TrimSuffix(strings.TrimPrefix(said, quotes), quotes))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.ui.out.err != nil {
			return nil // main reports it
		}
		if err != nil {
			r.ui.say("krait: " + err.Error())
		}
	}
}

const quotes = `"""`

// read returns a line, or several where three quotes are open.
func (r *repl) read() (string, error) {
	said, err := r.lines.read(">>> ")
	for err == nil && strings.Count(said, quotes)%2 == 1 {
		var more string
		more, err = r.lines.read("... ")
		said += "\n" + more
	}
	return said, err
}

// interrupts lets Ctrl-C end the answer instead of the program, until the function that it returns is called.
func (r *repl) interrupts(stop func()) func() {
	signal.Reset(os.Interrupt)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	go func() {
		for range signals {
			r.mu.Lock()
			if r.cancel != nil {
				r.cancel()
			} else if !r.terminal {
				stop()
			}
			r.mu.Unlock()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// answer is turn with Ctrl-C.
func (r *repl) answer(ctx context.Context, said string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	set := func(f context.CancelFunc) {
		r.mu.Lock()
		r.cancel = f
		r.mu.Unlock()
	}
	set(cancel)
	defer set(nil)
	err := r.turn(ctx, said)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// command does what a line that begins with a slash says.
func (r *repl) command(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "/?", "/help":
		r.ui.print("%s", replHelp)
	case "/clear":
		r.clear()
		r.ui.say("The conversation is forgotten.")
	case "/set":
		return r.set(rest)
	case "/show":
		return r.show(rest)
	case "/save", "/load":
		if rest == "" {
			return fmt.Errorf("%s: want a FILE", word)
		}
		if word == "/save" {
			return r.save(rest)
		}
		return r.load(rest)
	default:
		return fmt.Errorf("unknown command %q: /? lists them", word)
	}
	return nil
}

func (r *repl) set(rest string) error {
	what, value, _ := strings.Cut(rest, " ")
	value = strings.TrimSpace(value)
	switch what {
	case "system":
		if r.template == nil {
			return fmt.Errorf("%s has no chat template to put a system message in", r.model.name)
		}
		r.system = strings.TrimSuffix(strings.TrimPrefix(value, quotes), quotes)
		r.ui.say("Set the system message.")
	case "verbose", "quiet":
		r.config.verbose = what == "verbose"
	case "parameter":
		name, value, _ := strings.Cut(value, " ")
		if err := r.setParameter(name, strings.TrimSpace(value)); err != nil {
			return err
		}
		r.ui.say(fmt.Sprintf("Set parameter %s to %s.", name, strings.TrimSpace(value)))
	default:
		return fmt.Errorf("/set %s: want parameter, system, verbose or quiet", what)
	}
	return nil
}

// setParameter changes a parameter, or nothing where the value makes no sense.
func (r *repl) setParameter(name, value string) error {
	next := r.config.request
	f, floatErr := strconv.ParseFloat(value, 64)
	n, intErr := strconv.Atoi(value)
	var err error
	switch name {
	case "temperature":
		next.Sampling.Temperature, err = f, floatErr
	case "top_p":
		next.Sampling.TopP, err = f, floatErr
	case "min_p":
		next.Sampling.MinP, err = f, floatErr
	case "top_k":
		next.Sampling.TopK, err = n, intErr
	case "seed":
		next.Seed, err = strconv.ParseUint(value, 10, 64)
	case "num_predict":
		if next.MaxTokens, err = n, intErr; err == nil && (n == 0 || n < -1) {
			return errors.New("num_predict: want a positive number, or -1 for no limit")
		}
	case "speculate":
		switch next.Speculate, err = n, intErr; {
		case err == nil && (n < 0 || n > 256):
			return errors.New("speculate: want a number from 0 to 256")
		case err == nil && n > 0 && !r.config.guesses():
			return errors.New("speculate: nobody guesses: begin with --draft MODEL or --ngram")
		}
	default:
		return fmt.Errorf("unknown parameter %q: want temperature, top_p, top_k, min_p, seed, num_predict or speculate", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %q is not a number that it can be", name, value)
	}
	if err := next.Sampling.Validate(); err != nil {
		return err
	}
	r.config.request = next
	r.config.seeded = r.config.seeded || name == "seed"
	r.config.depthAsked = r.config.depthAsked || name == "speculate"
	return nil
}

func (r *repl) show(what string) error {
	switch what {
	case "info":
		m := r.model.Model
		window := "unlimited"
		if n := m.Config.MaxPositionEmbeddings; n > 0 {
			window = strconv.Itoa(n)
		}
		r.ui.table([][]string{
			{"model", r.model.name}, {"parameters", strconv.Itoa(m.NumParams())}, {"layers", strconv.Itoa(m.Config.NumHiddenLayers)},
			{"vocabulary", strconv.Itoa(m.Config.VocabSize)}, {"context", window}, {"said", fmt.Sprintf("%d tokens", len(r.tokens))},
		})
	case "parameters":
		q := &r.config.request
		seed := "new for each answer"
		if r.config.seeded {
			seed = strconv.FormatUint(q.Seed, 10)
		}
		number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
		r.ui.table([][]string{
			{"temperature", number(q.Sampling.Temperature)}, {"top_p", number(q.Sampling.TopP)}, {"top_k", strconv.Itoa(q.Sampling.TopK)},
			{"min_p", number(q.Sampling.MinP)}, {"seed", seed}, {"num_predict", strconv.Itoa(q.MaxTokens)}, {"speculate", strconv.Itoa(q.Speculate)},
		})
	case "template":
		if r.template == nil {
			return fmt.Errorf("%s has no chat template", r.model.name)
		}
		r.ui.print("%s\n", strings.TrimSuffix(r.template.Source, "\n"))
	case "system":
		r.ui.print("%s\n", r.system)
	default:
		return errors.New("/show: want info, parameters, template or system")
	}
	return nil
}

// save writes the messages as krait template reads them, or the text of a model without a template.
func (r *repl) save(path string) error {
	data := []byte(r.text)
	if r.template != nil {
		messages := r.all()
		if len(messages) == 0 {
			return errors.New("nothing was said yet")
		}
		var err error
		if data, err = json.MarshalIndent(messages, "", "  "); err != nil {
			return err
		}
		data = append(data, '\n')
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	r.ui.say("Saved to " + path + ".")
	return nil
}

// load goes on with what save wrote.
func (r *repl) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if at := invalidUTF8(data); at >= 0 {
		return fmt.Errorf("%s: not valid UTF-8 at byte %d", path, at)
	}
	if r.template == nil {
		text := string(data)
		ids, err := r.model.tokenizer.Encode(text, true)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r.text, r.tokens = text, ids
		r.ui.say("Loaded " + path + ".")
		return nil
	}
	messages, err := parseMessages(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.clear()
	r.system = ""
	if len(messages) > 0 && messages[0].Role == "system" {
		r.system, messages = messages[0].Content, messages[1:]
	}
	r.messages = messages
	r.ui.say(fmt.Sprintf("Loaded %d messages from %s.", len(messages), path))
	return nil
}
