package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/go-kit/log"
	"github.com/philippseith/signalr"
)

// receiver takes what the hub calls on the client; the library runs each call in a goroutine of its own.
type receiver struct {
	mu       sync.Mutex
	messages map[string]chan struct{}
	numbers  map[int]bool
	numbered chan struct{}
}

// Message is called by the hub.
func (r *receiver) Message(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if waiting, ok := r.messages[text]; ok {
		close(waiting)
		delete(r.messages, text)
	}
}

// Broadcast is called by other cells' hubs; without it the library answers with an error.
func (r *receiver) Broadcast(string) {}

// Numbered is called by the hub's Push.
func (r *receiver) Numbered(i int, _ string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.numbers[i] = true
	if len(r.numbers) == numberedCount {
		close(r.numbered)
	}
}

// Question is a client result.
func (r *receiver) Question(question string) string { return "answer to " + question }

func (r *receiver) expect(text string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := make(chan struct{})
	r.messages[text] = waiting
	return waiting
}

type connection struct {
	signalr.Client
	receiver *receiver
	limit    time.Duration
}

// open builds and starts a client that reconnects by itself.
func open(c *cell, url string, token string) (*connection, error) {
	r := &receiver{messages: map[string]chan struct{}{}, numbers: map[int]bool{}, numbered: make(chan struct{})}
	headers := func() http.Header {
		header := http.Header{}
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
		return header
	}
	format := signalr.TransferFormatText
	if c.Protocol == "messagepack" {
		format = signalr.TransferFormatBinary
	}
	client, err := signalr.NewClient(context.Background(),
		signalr.WithConnector(func() (signalr.Connection, error) {
			return signalr.NewHTTPConnection(context.Background(), url, signalr.WithHTTPHeaders(headers),
				signalr.WithTransports(signalr.TransportWebSockets), signalr.WithNegotiateVersion(1))
		}),
		signalr.WithReceiver(r),
		signalr.TransferFormat(format),
		signalr.MaximumReceiveMessageSize(4<<20),
		signalr.WithBackoff(func() backoff.BackOff { return backoff.NewConstantBackOff(100 * time.Millisecond) }),
		signalr.Logger(log.NewNopLogger(), false))
	if err != nil {
		return nil, err
	}
	client.Start()
	conn := &connection{Client: client, receiver: r, limit: time.Duration(c.StepTimeoutMs) * time.Millisecond}
	ctx, cancel := context.WithTimeout(context.Background(), conn.limit)
	defer cancel()
	return conn, <-client.WaitForState(ctx, signalr.ClientConnected)
}

// call invokes a method; its result goes through JSON, so that both protocols compare alike.
func (c *connection) call(method string, args ...any) (any, error) {
	select {
	case result := <-c.Invoke(method, args...):
		if result.Error != nil {
			return nil, result.Error
		}
		return plain(result.Value)
	case <-time.After(c.limit):
		return nil, fmt.Errorf("%s: nothing within %v", method, c.limit)
	}
}

// collect takes all items of a stream.
func (c *connection) collect(results <-chan signalr.InvokeResult) ([]any, error) {
	items := []any{}
	late := time.After(c.limit)
	for {
		select {
		case result, more := <-results:
			if !more {
				return items, nil
			}
			if result.Error != nil {
				return items, result.Error
			}
			item, err := plain(result.Value)
			if err != nil {
				return items, err
			}
			items = append(items, item)
		case <-late:
			return items, fmt.Errorf("the stream did not end within %v", c.limit)
		}
	}
}

func (c *connection) await(what string, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-time.After(c.limit):
		return fmt.Errorf("%s: nothing within %v", what, c.limit)
	}
}

func plain(value any) (any, error) {
	text, err := json.Marshal(keyed(value))
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(text, &out)
}

// keyed turns MessagePack's maps, whose keys may be anything, into maps that JSON can hold.
func keyed(value any) any {
	switch value := value.(type) {
	case map[any]any:
		out := map[string]any{}
		for key, item := range value {
			out[fmt.Sprint(key)] = keyed(item)
		}
		return out
	case map[string]any:
		for key, item := range value {
			value[key] = keyed(item)
		}
	case []any:
		for i, item := range value {
			value[i] = keyed(item)
		}
	}
	return value
}
