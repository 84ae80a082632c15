// Command hub is the contract hub by github.com/philippseith/signalr, as far as that library goes: a hub that is not Microsoft's.
//
// It prints "ready URL". What it lacks (users, client results, order of calls) stands in ../../na.json under "@go".
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/philippseith/signalr"
)

// events remembers what happened to each connection and wakes those who wait for it.
type events struct {
	mu   sync.Mutex
	seen map[string]chan struct{}
}

var happened = &events{seen: map[string]chan struct{}{}}

func (e *events) of(connectionID, event string) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := connectionID + " " + event
	if e.seen[key] == nil {
		e.seen[key] = make(chan struct{})
	}
	return e.seen[key]
}

func (e *events) record(connectionID, event string) {
	seen := e.of(connectionID, event)
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-seen:
	default:
		close(seen)
	}
}

// contract is made anew for every call.
type contract struct{ signalr.Hub }

// OnConnected and OnDisconnected record the life of a connection.
func (h *contract) OnConnected(id string)    { happened.record(id, "connected") }
func (h *contract) OnDisconnected(id string) { happened.record(id, "disconnected") }

func (h *contract) Echo(x any) any              { return x }
func (h *contract) EchoText(text string) string { return text }
func (h *contract) Add(a, b int) int            { return a + b }
func (h *contract) Void()                       { happened.record(h.ConnectionID(), "void") }
func (h *contract) Throw()                      { panic("contract") }
func (h *contract) ThrowHub(text string)        { panic(text) }
func (h *contract) ConnectionId() string        { return h.ConnectionID() } //nolint:revive // the contract's name
func (h *contract) JoinGroup(group string)      { h.Groups().AddToGroup(group, h.ConnectionID()) }
func (h *contract) LeaveGroup(group string)     { h.Groups().RemoveFromGroup(group, h.ConnectionID()) }
func (h *contract) Big(n int) string            { return strings.Repeat("x", n) }
func (h *contract) Length(text string) int      { return len(text) }
func (h *contract) SendToGroup(group, text string) {
	h.Clients().Group(group).Send("Message", text)
}

// DisconnectError is nil always: the library tells no reason.
func (h *contract) DisconnectError(string) any { return nil }

// WaitForEvent waits until the connection has had the event.
func (h *contract) WaitForEvent(connectionID, event string, ms int) bool {
	select {
	case <-happened.of(connectionID, event):
		return true
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return false
	}
}

// Counter streams 0 to n-1.
func (h *contract) Counter(n int) <-chan int {
	items := make(chan int)
	go func() {
		defer close(items)
		for i := range n {
			items <- i
		}
	}()
	return items
}

// Ticks streams without end. The library tells nothing of a cancellation, it only takes no more items.
func (h *contract) Ticks(ms int) <-chan int {
	items, id := make(chan int), h.ConnectionID()
	go func() {
		for i := 0; ; i++ {
			select {
			case items <- i:
				time.Sleep(time.Duration(ms) * time.Millisecond)
			case <-time.After(300 * time.Millisecond):
				happened.record(id, "stream-cancelled")
				return
			}
		}
	}()
	return items
}

// Upload adds up.
func (h *contract) Upload(items <-chan int) int {
	sum := 0
	for item := range items {
		sum += item
	}
	return sum
}

// UploadStrings joins.
func (h *contract) UploadStrings(items <-chan string) string {
	var all strings.Builder
	for item := range items {
		all.WriteString(item)
	}
	return all.String()
}

func main() {
	mux := http.NewServeMux()
	for path, limit := range map[string]uint{"/contract": 32 << 10, "/contract-large": 4 << 20} {
		server, err := signalr.NewServer(context.Background(), signalr.SimpleHubFactory(&contract{}),
			signalr.MaximumReceiveMessageSize(limit), signalr.Logger(log.NewNopLogger(), false))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		server.MapHTTP(signalr.WithHTTPServeMux(mux), path)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("ready http://%s\n", listener.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(listener, mux))
	os.Exit(1)
}
