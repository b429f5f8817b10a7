package main

// What a consumer must not forget: its effects, and how far it has come.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// State is one JSON file, which is replaced as a whole: all parts are committed together, or none of them.
//
// Each commit writes everything, so this is for small states. For larger ones use a database, and commit by a transaction.
type State struct {
	Checkpoints map[string]Checkpoint `json:"checkpoints"` // by shard
	Sequences   Sequences             `json:"sequences"`
	View        View                  `json:"view"`

	path string
}

// Checkpoint is how far a shard is processed.
type Checkpoint struct {
	SequenceNumber string `json:"sequence_number"` // of the last record whose effects are committed; empty: none yet
	Finished       bool   `json:"finished"`        // the shard was resharded, and all of its records are processed
}

// load reads the state. Without a file it is empty.
func load(path string) (*State, error) {
	state := &State{Checkpoints: map[string]Checkpoint{}, Sequences: Sequences{}, View: View{}, path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, state); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return state, nil
}

// commit replaces the file: written beside it, flushed to disk, then renamed, so that there is never half a file. If a
// power failure undoes the rename, it undoes the checkpoints as well, and the same records are read again.
func (s *State) commit() error {
	text, err := encode(s)
	if err != nil {
		return err
	}
	beside := s.path + ".new"
	if err := writeDurably(beside, text); err != nil {
		return err
	}
	return os.Rename(beside, s.path)
}

func writeDurably(path string, text []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// encode makes JSON text that keeps <, > and & as they are. json.Marshal escapes them, for HTML.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}
