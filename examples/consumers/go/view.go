// A copy of tables in a JSON file, made from their events alone. Needs Go 1.24 or later.
//
//	go build -o view .
//	./view --database view.json --stream lab-events [--endpoint http://127.0.0.1:4566] [--until-idle]
//
// It reads the automatic events of the tables: <table>.inserted, .updated, .deleted and .truncated. The view then has what
// the database has: one row for each key, with the columns as JSON. --print prints it, one row on each line.
//
// Stop the program at any time, also with kill -9: it continues after the last batch that it committed.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// View has the tables by source and name.
type View map[string]map[string]*Table

// Table has the rows by key.
type Table struct {
	Truncated string         `json:"truncated"` // the `sequence` of the last `truncated`; empty: none yet
	Rows      map[string]Row `json:"rows"`
}

// Row is a row as its last event left it.
type Row struct {
	Sequence string  `json:"sequence"` // of that event
	Data     Columns `json:"data"`     // nil: deleted
}

// handle is the effect of an event that is new.
func (v View) handle(event Event) {
	if event.Type == "forebay.gap.v1" {
		log.Printf("forebay.gap.v1: events may be missing, compare the view with the tables: %s", event.Data)
		return
	}
	name, operation := automatic(event.Type)
	switch operation {
	case "truncated":
		// It has another key than the rows, so it may come before or after events of rows: `current` compares the sequences.
		table := v.table(event.Source, name)
		table.Truncated = max(table.Truncated, event.Sequence)
	case "deleted":
		v.table(event.Source, name).Rows[event.Subject] = Row{Sequence: event.Sequence}
	case "inserted", "updated":
		var data Columns
		if err := json.Unmarshal(event.Data, &data); err != nil || data == nil {
			return // Not a row: an application may publish a type with such a name, and its data are any JSON.
		}
		rows := v.table(event.Source, name).Rows
		for _, column := range event.unavailable() {
			if value, ok := rows[event.Subject].Data[column]; ok {
				data[column] = value
			}
		}
		rows[event.Subject] = Row{event.Sequence, data}
	}
}

// automatic splits the type of an automatic event into table and operation. Other types have neither.
func automatic(eventType string) (table, operation string) {
	name, ok := strings.CutSuffix(eventType, ".v1")
	dot := strings.LastIndexByte(name, '.')
	if !ok || dot < 0 {
		return "", ""
	}
	return name[:dot], name[dot+1:]
}

// table returns a table, and adds it if there is none yet.
func (v View) table(source, name string) *Table {
	tables := inner(v, source)
	if tables[name] == nil {
		tables[name] = &Table{Rows: map[string]Row{}}
	}
	return tables[name]
}

// currentRow is a row that the database has.
type currentRow struct {
	table, key string
	data       Columns
}

// current returns the rows of all tables, by table and key.
func (v View) current() []currentRow {
	var rows []currentRow
	for _, tables := range v {
		for name, table := range tables {
			for key, row := range table.Rows {
				if row.Data != nil && row.Sequence > table.Truncated {
					rows = append(rows, currentRow{name, key, row.Data})
				}
			}
		}
	}
	slices.SortFunc(rows, func(a, b currentRow) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.key, b.key))
	})
	return rows
}

// print writes each row as [table, key, data] on a line.
func (v View) print(out io.Writer) error {
	lines := bufio.NewWriter(out)
	for _, row := range v.current() {
		var parts []string
		for _, part := range []any{row.table, row.key, row.data} {
			text, err := encode(part)
			if err != nil {
				return err
			}
			parts = append(parts, string(text))
		}
		fmt.Fprintf(lines, "[%s]\n", strings.Join(parts, ", "))
	}
	return lines.Flush()
}

func handleRecord(state *State, data []byte) error {
	found, err := events(data)
	if err != nil {
		return err
	}
	for _, event := range found {
		if state.Sequences.isNew(event) {
			state.View.handle(event)
		}
	}
	return nil
}

func run() error {
	database := flag.String("database", "", "the file that has the view")
	stream := flag.String("stream", "", "the stream to read")
	endpoint := flag.String("endpoint", "", "the address of Kinesis, if it is not AWS's")
	untilIdle := flag.Bool("until-idle", false, "stop when all shards are read to their end")
	show := flag.Bool("print", false, "print the view")
	flag.Parse()
	if *database == "" {
		return errors.New("--database is missing")
	}
	state, err := load(*database)
	if err != nil {
		return err
	}
	if *stream != "" {
		ctx := context.Background()
		settings, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
		client := kinesis.NewFromConfig(settings, func(options *kinesis.Options) {
			if *endpoint != "" {
				options.BaseEndpoint = endpoint
			}
		})
		if err := newStream(client, *stream, state, handleRecord).run(ctx, *untilIdle); err != nil {
			return err
		}
	}
	if *show {
		return state.View.print(os.Stdout)
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
