package main

// What Forebay promises to consumers, as code; docs/CONSUMERS.md says why. Standard library only.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Event is one line of a record. Attributes that are not named here are ignored.
type Event struct {
	Source       string          `json:"source"`
	Type         string          `json:"type"`
	Subject      string          `json:"subject"`
	PartitionKey string          `json:"partitionkey"`
	Sequence     string          `json:"sequence"`
	Unavailable  string          `json:"unavailable"`
	Data         json.RawMessage `json:"data"`
}

// Columns are the fields of an event, each value as the text that the event has: in a float64, 9007199254740993 and 1.50
// would lose digits. To calculate with a number, parse its text with math/big or a decimal package.
type Columns map[string]json.RawMessage

// events returns the events of a Kinesis record, which may hold several.
func events(record []byte) ([]Event, error) {
	var found []Event
	for line := range bytes.Lines(record) {
		var event Event
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("a line of the record is not an event: %w", err)
		}
		found = append(found, event)
	}
	return found, nil
}

// An SQL identifier, in quotes where it needs them.
var identifier = regexp.MustCompile(`"((?:[^"]|"")*)"|([^",]+)`)

// unavailable returns the columns whose value the database did not send.
func (e Event) unavailable() []string {
	var columns []string
	for _, match := range identifier.FindAllStringSubmatch(e.Unavailable, -1) {
		quoted, plain := match[1], match[2]
		columns = append(columns, strings.ReplaceAll(quoted, `""`, `"`)+plain)
	}
	return columns
}

// Sequences has the last `sequence` by source and partition key.
type Sequences map[string]map[string]string

// isNew reports whether an event is later than all others of its key, and notes it. If it is not: a repeat, skip it.
// An event takes effect exactly once if the note and the effect are committed together.
func (s Sequences) isNew(event Event) bool {
	keys := inner(s, event.Source)
	if event.Sequence <= keys[event.PartitionKey] {
		return false
	}
	keys[event.PartitionKey] = event.Sequence
	return true
}

// inner returns the map below a key, and adds it if there is none yet.
func inner[V any](outer map[string]map[string]V, key string) map[string]V {
	if outer[key] == nil {
		outer[key] = map[string]V{}
	}
	return outer[key]
}
