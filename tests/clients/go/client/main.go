// Command client runs one matrix cell of the Go client github.com/philippseith/signalr (steps: ../../js/scenario.mjs).
//
// It is told the cell as JSON and reports as JSON lines; every step waits for events and has a time limit.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/philippseith/signalr"
)

const (
	mib           = 1 << 20
	numberedCount = 1000
)

// cell is what the runner tells (README.md).
type cell struct {
	Name, Base, CutBase, HubTransport, Protocol, User, Token string
	StepTimeoutMs                                            int
	Transcoded                                               bool
	Lacks                                                    map[string]string
	Texts                                                    *texts
	main, observer                                           *connection
	mainID                                                   string
}

// texts are the hub's error texts; StreamBroke is empty where a hub cannot end a stream with an error.
type texts struct{ HubException, Throws, Unknown, StreamBroke string }

var aspnetTexts = &texts{
	HubException: "An unexpected error occurred invoking 'ThrowHub' on the server. HubException: my text",
	Throws:       "An unexpected error occurred invoking 'Throw' on the server.",
	Unknown:      "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.",
	StreamBroke:  "An error occurred on the server while streaming results. HubException: stream broke",
}

type step struct {
	name string
	run  func(*cell) error
}

var steps = []step{
	{"connect", (*cell).connect}, {"invoke", (*cell).invoke}, {"void", (*cell).void}, {"hub-exception", (*cell).hubException},
	{"unknown-method", (*cell).unknownMethod}, {"server-stream", (*cell).serverStream}, {"client-stream", (*cell).clientStream},
	{"cancel", nil}, {"client-result", (*cell).clientResult}, {"group", (*cell).group}, {"user", (*cell).user},
	{"one-mib", (*cell).oneMib}, {"in-order", (*cell).inOrder}, {"clean-stop", (*cell).cleanStop}, {"reconnect", (*cell).reconnect},
}

func report(line map[string]any) {
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func main() {
	c := &cell{}
	if err := json.Unmarshal([]byte(os.Args[1]), c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if c.Texts == nil {
		c.Texts = aspnetTexts
	}
	connected := true
	for _, s := range steps {
		if reason, lacking := c.Lacks[s.name]; lacking {
			report(map[string]any{"step": s.name, "na": reason})
		} else if !connected {
			report(map[string]any{"step": s.name, "error": "not connected"})
		} else if s.run == nil {
			report(map[string]any{"step": s.name, "error": "the client has no such call"})
		} else if err := s.run(c); err != nil {
			report(map[string]any{"step": s.name, "error": err.Error()})
			connected = s.name != "connect"
		} else {
			report(map[string]any{"step": s.name, "ok": true})
		}
	}
	report(map[string]any{"done": true})
}

func same(actual, expected any, what string) error {
	want, err := plain(expected)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(actual, want) {
		return fmt.Errorf("%s: expected %.200v, got %.200v", what, want, actual)
	}
	return nil
}

// wants calls a method and compares its result.
func (c *connection) wants(expected any, method string, args ...any) error {
	actual, err := c.call(method, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return same(actual, expected, method)
}

// fails calls a method that must fail with that text.
func (c *connection) fails(text string, method string, args ...any) error {
	value, err := c.call(method, args...)
	if err == nil {
		return fmt.Errorf("%s: expected a failure, got %v", method, value)
	}
	return same(err.Error(), text, method)
}

// first gives the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cell) byQuery() string {
	return c.Base + "/contract?user=" + strings.ReplaceAll(c.User, " ", "%20")
}

func (c *cell) connect() (err error) {
	if c.main, err = open(c, c.Base+"/contract", c.Token); err != nil {
		return err
	}
	if c.observer, err = open(c, c.byQuery(), ""); err != nil {
		return err
	}
	id, err := c.main.call("ConnectionId")
	c.mainID = fmt.Sprint(id)
	if err != nil || c.HubTransport == "" {
		return err
	}
	return c.main.wants(c.HubTransport, "Transport")
}

func (c *cell) event(name string, milliseconds int) error {
	return c.observer.wants(true, "WaitForEvent", c.mainID, name, milliseconds)
}

func (c *cell) invoke() error {
	value := map[string]any{"text": "Grüße, 世界 🦀 \u001e", "list": []any{1, -2, 3.5, nil, true}, "deep": map[string]any{"empty": map[string]any{}}}
	return first(c.main.wants(value, "Echo", value), c.main.wants("plain", "EchoText", "plain"), c.main.wants(42, "Add", 40, 2))
}

func (c *cell) void() error { return first(c.main.wants(nil, "Void"), c.event("void", 15000)) }

func (c *cell) hubException() error {
	return first(c.main.fails(c.Texts.HubException, "ThrowHub", "my text"), c.main.fails(c.Texts.Throws, "Throw"))
}

func (c *cell) unknownMethod() error { return c.main.fails(c.Texts.Unknown, "NoSuchMethod") }

func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}

func (c *cell) serverStream() error {
	items, err := c.main.collect(c.main.PullStream("Counter", 100))
	if err := first(err, same(items, upTo(100), "Counter")); err != nil {
		return err
	}
	if c.Texts.StreamBroke == "" {
		return nil
	}
	_, err = c.main.collect(c.main.PullStream("CounterThenThrow", 3))
	if err == nil {
		return fmt.Errorf("CounterThenThrow ended well")
	}
	return same(err.Error(), c.Texts.StreamBroke, "CounterThenThrow")
}

func upload[T any](c *connection, method string, items []T) (any, error) {
	channel := make(chan T)
	results := c.PushStreams(method, channel)
	for _, item := range items {
		channel <- item
	}
	close(channel)
	all, err := c.collect(results)
	// The library gives the result and then an empty one.
	if err == nil && len(all) > 0 {
		return all[0], nil
	}
	return all, err
}

func (c *cell) clientStream() error {
	numbers := upTo(101)[1:]
	sum, err := upload(c.main, "Upload", numbers)
	if err := first(err, same(sum, 5050, "Upload")); err != nil {
		return err
	}
	joined, err := upload(c.main, "UploadStrings", []string{"a", "ß", "🦀"})
	return first(err, same(joined, "aß🦀", "UploadStrings"))
}

func (c *cell) clientResult() error {
	return first(c.main.wants("answer to one", "Ask", "one"), c.observer.wants("answer to two", "AskOn", c.mainID, "two"))
}

func (c *cell) group() error {
	group := "group of " + c.Name
	toOne := c.main.receiver.expect("to one")
	if err := first(c.main.wants(nil, "JoinGroup", group), c.observer.wants(nil, "SendToGroup", group, "to one"),
		c.main.await("to one", toOne), c.observer.wants(nil, "JoinGroup", group)); err != nil {
		return err
	}
	mine, theirs := c.main.receiver.expect("to both"), c.observer.receiver.expect("to both")
	return first(c.main.wants(nil, "SendToGroup", group, "to both"), c.main.await("to both", mine), c.observer.await("to both", theirs))
}

func (c *cell) user() error {
	mine, theirs := c.main.receiver.expect("to the user"), c.observer.receiver.expect("to the user")
	return first(c.main.wants(c.User, "User"), c.observer.wants(c.User, "User"),
		c.observer.wants(nil, "SendToUser", c.User, "to the user"),
		c.main.await("to the user", mine), c.observer.await("to the user", theirs))
}

func (c *cell) oneMib() error {
	large, err := open(c, c.Base+"/contract-large", c.Token)
	if err != nil {
		return err
	}
	defer large.Stop()
	return first(large.wants(mib, "Length", strings.Repeat("y", mib)), large.wants(strings.Repeat("x", mib), "Big", mib))
}

// inOrder sends each number after the answer to the one before, since the library starts a goroutine for every call, and takes
// the numbers of the other way from a stream, since it starts one for every call of the hub too.
func (c *cell) inOrder() error {
	for i := range numberedCount {
		if err := c.main.wants(nil, "Collect", i); err != nil {
			return err
		}
	}
	items, err := c.main.collect(c.main.PullStream("Counter", numberedCount))
	return first(err, same(items, upTo(numberedCount), "Counter"), c.main.wants([]int{numberedCount, 0}, "Collected"),
		c.main.wants(nil, "Push", numberedCount, 64), c.main.await("all of Push", c.main.receiver.numbered))
}

// cleanStop: this library ends with a hub Close that carries an error (in MessagePack one that ASP.NET Core cannot read), which
// the hub must get unchanged. A gateway that transcodes cannot read that one either, and closes towards the hub in good order.
func (c *cell) cleanStop() error {
	said := map[string]string{"json": "breaking loop. Party canceled: context canceled", "messagepack": "Reading 'error' as String failed."}
	var wanted any = said[c.Protocol]
	if c.Transcoded && c.Protocol == "messagepack" {
		wanted = nil
	}
	c.main.Stop()
	if c.Texts != aspnetTexts {
		return c.event("disconnected", 15000)
	}
	return first(c.event("disconnected", 15000), c.observer.wants(wanted, "DisconnectError", c.mainID))
}

func (c *cell) reconnect() error {
	lost, err := open(c, c.CutBase+"/contract", c.Token)
	if err != nil {
		return err
	}
	defer lost.Stop()
	before, err := lost.call("ConnectionId")
	if err != nil {
		return err
	}
	states := make(chan signalr.ClientState, 8)
	lost.ObserveStateChanged(states)
	noticed := make(chan struct{})
	go func() {
		for state := range states {
			if state == signalr.ClientConnecting {
				close(noticed)
				return
			}
		}
	}()
	report(map[string]any{"ask": "cut"})
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	if err := lost.await("the loss", noticed); err != nil {
		return err
	}
	after, err := lost.call("ConnectionId") // waits for the new connection
	if err == nil && after == before {
		err = fmt.Errorf("the same connection after the reset")
	}
	return first(err, lost.wants("again", "Echo", "again"))
}
