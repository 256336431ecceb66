// Command gooseparse tells what goose does with migration files: one JSON request a line on stdin, one JSON answer a line on stdout.
// It drives goose's public API over a database/sql driver that records statements instead of running them.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing/fstest"
	"unicode"

	"github.com/pressly/goose/v3"
)

const source = "1_x.sql"

// request: bytes travel as base64, which is encoding/json's way with []byte.
type request struct {
	Ask       string            `json:"ask"`
	File      []byte            `json:"file"`
	Direction string            `json:"direction"`
	Env       map[string][]byte `json:"env"`
}

type answer struct {
	Statements     [][]byte `json:"statements"`
	UseTransaction bool     `json:"use_transaction"`
	Error          []byte   `json:"error"`
	Panic          string   `json:"panic"`
	Text           []byte   `json:"text"`
	Number         int64    `json:"number"`
	Table          string   `json:"table"`
}

// recorder is a driver whose connections remember what they were asked to execute.
type recorder struct {
	statements [][]byte
	began      bool
}

func (r *recorder) Open(string) (driver.Conn, error)                             { return r, nil }
func (r *recorder) Connect(context.Context) (driver.Conn, error)                 { return r, nil }
func (r *recorder) Driver() driver.Driver                                        { return r }
func (r *recorder) Prepare(string) (driver.Stmt, error)                          { return nil, errors.New("not used by goose") }
func (r *recorder) Close() error                                                 { return nil }
func (r *recorder) Begin() (driver.Tx, error)                                    { r.began = true; return r, nil }
func (r *recorder) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return r.Begin() }
func (r *recorder) Commit() error                                                { return nil }
func (r *recorder) Rollback() error                                              { return nil }

// ExecContext records statements of the file; only goose's own row of the version table has arguments.
func (r *recorder) ExecContext(_ context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 {
		r.statements = append(r.statements, []byte(query))
	}
	return driver.ResultNoRows, nil
}

func migrate(asked request) (told answer) {
	defer func() {
		if r := recover(); r != nil {
			told = answer{Panic: fmt.Sprint(r)}
		}
	}()
	for name, value := range asked.Env {
		os.Setenv(name, string(value))
		defer os.Unsetenv(name)
	}
	recorded := &recorder{}
	db := sql.OpenDB(recorded)
	defer db.Close()
	goose.SetBaseFS(fstest.MapFS{source: {Data: asked.File}})
	migration := &goose.Migration{Version: 1, Source: source}
	run := migration.Up
	if asked.Direction == "down" {
		run = migration.Down
	}
	if err := run(db); err != nil {
		return answer{Error: []byte(strings.TrimPrefix(err.Error(), "ERROR "+source+": failed to parse SQL migration file: "))}
	}
	return answer{Statements: recorded.statements, UseTransaction: recorded.began}
}

// table has one letter for every code point: L for letters, N for numbers, P for others that print, s for white space (p: the one that
// prints), "." for the rest.
func table() string {
	var text strings.Builder
	for r := rune(0); r <= unicode.MaxRune; r++ {
		switch {
		case unicode.IsLetter(r):
			text.WriteByte('L')
		case unicode.IsNumber(r):
			text.WriteByte('N')
		case unicode.IsSpace(r) && strconv.IsPrint(r):
			text.WriteByte('p')
		case unicode.IsSpace(r):
			text.WriteByte('s')
		case strconv.IsPrint(r):
			text.WriteByte('P')
		default:
			text.WriteByte('.')
		}
	}
	return text.String()
}

func respond(asked request) answer {
	switch asked.Ask {
	case "quote":
		return answer{Text: []byte(fmt.Sprintf("%q", asked.File))}
	case "number":
		number, err := strconv.ParseInt(string(asked.File), 10, 64)
		return answer{Number: number, Error: text(err)}
	case "version":
		number, err := goose.NumericComponent(string(asked.File))
		return answer{Number: number, Error: text(err)}
	case "table":
		return answer{Table: table()}
	default:
		return migrate(asked)
	}
}

func text(err error) []byte {
	if err == nil {
		return nil
	}
	return []byte(err.Error())
}

func main() {
	os.Clearenv()
	goose.SetLogger(goose.NopLogger())
	if err := goose.SetDialect("sqlite3"); err != nil {
		panic(err)
	}
	input := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	output := bufio.NewWriterSize(os.Stdout, 1<<20)
	defer output.Flush()
	encoder := json.NewEncoder(output)
	for {
		var asked request
		if err := input.Decode(&asked); err != nil {
			if errors.Is(err, io.EOF) {
				return
			}
			panic(err)
		}
		if err := encoder.Encode(respond(asked)); err != nil {
			panic(err)
		}
	}
}
