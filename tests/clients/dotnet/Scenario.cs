// The fifteen steps of one matrix cell (js/scenario.mjs has them too). A step waits for events and is ended by its time-out.

using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Threading.Channels;
using Microsoft.AspNetCore.SignalR;
using Microsoft.AspNetCore.SignalR.Client;

namespace ClientCell;

public sealed class Scenario(Cell cell)
{
    private const int Mib = 1024 * 1024;
    private const int NumberedCount = 1000;

    private readonly ConcurrentDictionary<(HubConnection, string), TaskCompletionSource> _expected = new();
    private HubConnection _main = null!;
    private HubConnection _observer = null!;
    private string _mainId = "";

    public async Task RunAsync()
    {
        (string Name, Func<Task> Run)[] steps =
        [
            ("connect", Connect), ("invoke", Invoke), ("void", Void), ("hub-exception", HubException), ("unknown-method", UnknownMethod),
            ("server-stream", ServerStream), ("client-stream", ClientStream), ("cancel", Cancel), ("client-result", ClientResult),
            ("group", Group), ("user", User), ("one-mib", OneMib), ("in-order", InOrder), ("clean-stop", CleanStop), ("reconnect", Reconnect),
        ];
        var connected = true;
        foreach (var (step, run) in steps)
        {
            if (cell.Lacks.TryGetValue(step, out var reason))
            {
                Report.Line(new { step, na = reason });
                continue;
            }
            if (!connected)
            {
                Report.Line(new { step, error = "not connected" });
                continue;
            }
            try
            {
                await run().WaitAsync(TimeSpan.FromMilliseconds(cell.StepTimeoutMs));
                Report.Line(new { step, ok = true });
            }
            catch (Exception e)
            {
                Report.Line(new { step, error = $"{e.GetType().Name}: {e.Message}" });
                connected = step != "connect";
            }
        }
    }

    private HubConnection Build(string path, bool token, string? at = null)
    {
        var query = token ? "" : "?user=" + Uri.EscapeDataString(cell.User);
        var connection = Connections.Build((at ?? cell.Base) + path + query, token ? cell.Token : null, cell.Protocol == "messagepack");
        connection.On<string>("Message", text =>
        {
            if (_expected.TryRemove((connection, text), out var waiting)) waiting.SetResult();
        });
        return connection;
    }

    private Task Expect(HubConnection connection, string text)
        => _expected.GetOrAdd((connection, text), _ => new(TaskCreationOptions.RunContinuationsAsynchronously)).Task;

    private static void Same<T>(T actual, T expected, string what)
    {
        var (a, e) = (JsonSerializer.Serialize(actual), JsonSerializer.Serialize(expected));
        if (a != e) throw new InvalidOperationException($"{what}: expected {e}, got {a[..Math.Min(a.Length, 200)]}");
    }

    private static async Task Fails(Task call, string text)
    {
        try
        {
            await call;
        }
        catch (HubException e)
        {
            Same(e.Message, text, "error");
            return;
        }
        throw new InvalidOperationException("it did not fail");
    }

    private async Task Event(string name, int ms)
        => Same(await _observer.InvokeAsync<bool>("WaitForEvent", _mainId, name, ms), true, "event " + name);

    private async Task Connect()
    {
        _main = Build("/contract", token: true);
        _observer = Build("/contract", token: false);
        await Task.WhenAll(_main.StartAsync(), _observer.StartAsync());
        _mainId = await _main.InvokeAsync<string>("ConnectionId");
        Same(_main.ConnectionId, _mainId, "ConnectionId");
        Same(await _main.InvokeAsync<string>("Transport"), cell.HubTransport, "Transport()");
    }

    private async Task Invoke()
    {
        var value = new Dictionary<string, object?> { ["text"] = "Grüße, 世界 🦀 \u001e", ["list"] = new object?[] { 1, -2, 3.5, null, true } };
        Same(JsonSerializer.Serialize(await _main.InvokeAsync<object>("Echo", value)), JsonSerializer.Serialize(value), "Echo");
        Same(await _main.InvokeAsync<string>("EchoText", "plain"), "plain", "EchoText");
        Same(await _main.InvokeAsync<int>("Add", 40, 2), 42, "Add");
    }

    private async Task Void()
    {
        await _main.InvokeAsync("Void");
        await Event("void", 15000);
    }

    private async Task HubException()
    {
        await Fails(_main.InvokeAsync("ThrowHub", "my text"), "An unexpected error occurred invoking 'ThrowHub' on the server. HubException: my text");
        await Fails(_main.InvokeAsync("Throw"), "An unexpected error occurred invoking 'Throw' on the server.");
    }

    private Task UnknownMethod() => Fails(_main.InvokeAsync("NoSuchMethod"),
        "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.");

    private static async Task<List<T>> Collect<T>(IAsyncEnumerable<T> stream)
    {
        var items = new List<T>();
        await foreach (var item in stream) items.Add(item);
        return items;
    }

    private async Task ServerStream()
    {
        Same(await Collect(_main.StreamAsync<int>("Counter", 100)), [.. Enumerable.Range(0, 100)], "Counter");
        await Fails(Collect(_main.StreamAsync<int>("CounterThenThrow", 3)),
            "An error occurred on the server while streaming results. HubException: stream broke");
    }

    private static async IAsyncEnumerable<T> Items<T>(IEnumerable<T> items, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        foreach (var item in items)
        {
            await Task.Yield();
            cancellation.ThrowIfCancellationRequested();
            yield return item;
        }
    }

    private async Task ClientStream()
    {
        Same(await _main.InvokeAsync<int>("Upload", Items(Enumerable.Range(1, 100))), 5050, "Upload");
        Same(await _main.InvokeAsync<string>("UploadStrings", Items<string>(["a", "ß", "🦀"])), "aß🦀", "UploadStrings");
    }

    private async Task Cancel()
    {
        using var cancellation = new CancellationTokenSource();
        var items = new List<int>();
        try
        {
            await foreach (var item in _main.StreamAsync<int>("Ticks", 10, cancellation.Token))
            {
                items.Add(item);
                if (items.Count == 3) await cancellation.CancelAsync();
            }
        }
        catch (OperationCanceledException)
        {
        }
        Same(items[..3], [0, 1, 2], "Ticks");
        await Event("stream-cancelled", 15000);
    }

    private async Task ClientResult()
    {
        _main.On("Question", (string question) => Task.FromResult("answer to " + question));
        Same(await _main.InvokeAsync<string>("Ask", "one"), "answer to one", "Ask");
        Same(await _observer.InvokeAsync<string>("AskOn", _mainId, "two"), "answer to two", "AskOn");
    }

    private async Task Group()
    {
        var group = "group of " + cell.Name;
        await _main.InvokeAsync("JoinGroup", group);
        var first = Expect(_main, "to one");
        await _observer.InvokeAsync("SendToGroup", group, "to one");
        await first;
        await _observer.InvokeAsync("JoinGroup", group);
        var both = Task.WhenAll(Expect(_main, "to both"), Expect(_observer, "to both"));
        await _main.InvokeAsync("SendToGroup", group, "to both");
        await both;
        await _main.InvokeAsync("LeaveGroup", group);
        var stray = Expect(_main, "after leaving");
        await _observer.InvokeAsync("SendToGroup", group, "after leaving");
        await _main.InvokeAsync<string>("EchoText", "behind it");
        Same(stray.IsCompleted, false, "a message after LeaveGroup");
    }

    private async Task User()
    {
        Same(await _main.InvokeAsync<string>("User"), cell.User, "User() by token");
        Same(await _observer.InvokeAsync<string>("User"), cell.User, "User() by query");
        var both = Task.WhenAll(Expect(_main, "to the user"), Expect(_observer, "to the user"));
        await _observer.InvokeAsync("SendToUser", cell.User, "to the user");
        await both;
    }

    private async Task OneMib()
    {
        await using var large = Build("/contract-large", token: true);
        await large.StartAsync();
        Same(await large.InvokeAsync<int>("Length", new string('y', Mib)), Mib, "Length");
        Same(await large.InvokeAsync<string>("Big", Mib) == new string('x', Mib), true, "Big");
        await large.StopAsync();
    }

    private async Task InOrder()
    {
        for (var i = 0; i < NumberedCount; i++) await _main.SendAsync("Collect", i);
        Same(await _main.InvokeAsync<int[]>("Collected"), [NumberedCount, 0], "Collected");
        var numbers = Channel.CreateUnbounded<int>();
        using var subscription = _main.On<int, string>("Numbered", (i, _) => numbers.Writer.TryWrite(i));
        await _main.InvokeAsync("Push", NumberedCount, 64);
        for (var i = 0; i < NumberedCount; i++) Same(await numbers.Reader.ReadAsync(), i, "Numbered");
    }

    private async Task CleanStop()
    {
        await _main.StopAsync();
        await Event("disconnected", 15000);
        Same(await _observer.InvokeAsync<string?>("DisconnectError", _mainId), null, "DisconnectError");
    }

    private async Task Reconnect()
    {
        await using var lost = Build("/contract", token: true, cell.CutBase);
        var reconnected = new TaskCompletionSource<string?>(TaskCreationOptions.RunContinuationsAsynchronously);
        lost.Reconnected += id =>
        {
            reconnected.TrySetResult(id);
            return Task.CompletedTask;
        };
        lost.Closed += error =>
        {
            reconnected.TrySetException(new InvalidOperationException($"closed instead: {error?.Message}"));
            return Task.CompletedTask;
        };
        await lost.StartAsync();
        var before = await lost.InvokeAsync<string>("ConnectionId");
        Report.Line(new { ask = "cut" });
        await Console.In.ReadLineAsync();
        var id = await reconnected.Task;
        var after = await lost.InvokeAsync<string>("ConnectionId");
        Same(after != before, true, "a new connection");
        Same(id, after, "id given to Reconnected");
        Same(await lost.InvokeAsync<string>("EchoText", "again"), "again", "Echo after the reconnect");
    }
}
