// Microsoft's .NET client through a network that fails; js/numbered.mjs is its twin and tells more.

using System.Diagnostics;
using Microsoft.AspNetCore.SignalR.Client;

namespace ClientCell;

/// <summary>What the runner tells.</summary>
public sealed record NumberedCell(string Url, string Protocol, string Group, int Total, int Size, int Pad, int SpanMs, int ActiveMs, int IdleMs);

public sealed class Numbered(NumberedCell cell)
{
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(20);
    /// <summary>Long calls are this far apart: the reference stalls when more than 64 KiB wait.</summary>
    private static readonly TimeSpan LongCalls = TimeSpan.FromMilliseconds(400);

    private readonly object _gate = new();
    private readonly HashSet<int> _seen = [];
    private readonly TaskCompletionSource _over = new();
    private HubConnection _connection = null!;
    private (int Doubled, int Late, int Highest) _received = (0, 0, -1);
    private (int Asked, int Wrong, int Open) _echoes;
    private long _echoedAt;
    private int _sent;
    private int _ended;
    private bool _stopping;

    public async Task RunAsync()
    {
        _connection = Connections.Build(cell.Url, null, cell.Protocol == "messagepack", stateful: true);
        _connection.On<int, string>("Numbered", (i, _) => Add(i));
        _connection.On<string>("Message", message => Report.Line(new { message }));
        _connection.Closed += error =>
        {
            if (!_stopping) End(error?.Message ?? "closed without an error");
            return Task.CompletedTask;
        };
        try
        {
            await _connection.StartAsync();
            await _connection.InvokeAsync("JoinGroup", cell.Group);
        }
        catch (Exception e)
        {
            End($"start: {e.Message}");
            return;
        }
        Report.Line(new { connected = _connection.ConnectionId });
        _ = Task.Run(CommandsAsync);
        await _over.Task;
    }

    private async Task CommandsAsync()
    {
        while (await Console.In.ReadLineAsync() is { } line)
        {
            switch (line)
            {
                case "go":
                    _ = Task.Run(PaceAsync);
                    break;
                case "tell":
                    Report.Line(new { told = Told() });
                    break;
                case "last":
                    _ = Task.Run(LastAsync);
                    break;
                case "stop":
                    _stopping = true;
                    await _connection.StopAsync();
                    _over.TrySetResult();
                    break;
            }
        }
    }

    private async Task LastAsync()
    {
        try
        {
            var last = await _connection.InvokeAsync<string>("Echo", "last");
            var (sent, received, echoes) = (_sent, Counts(), Echoes());
            Report.Line(new { last, connectionId = _connection.ConnectionId, sent, received, echoes });
        }
        catch (Exception e)
        {
            End($"last call: {e.Message}");
        }
    }

    /// <summary>Paces by the clock: traffic, then a while without.</summary>
    private async Task PaceAsync()
    {
        var clock = Stopwatch.StartNew();
        var round = cell.ActiveMs + cell.IdleMs;
        using var timer = new PeriodicTimer(Tick);
        while (_sent < cell.Total && await timer.WaitForNextTickAsync())
        {
            var elapsed = clock.ElapsedMilliseconds;
            var active = elapsed / round * cell.ActiveMs + Math.Min(elapsed % round, cell.ActiveMs);
            var share = active / (cell.SpanMs * ((double)cell.ActiveMs / round));
            var due = Math.Min(cell.Total, (int)(share * cell.Total));
            try
            {
                if (due > _sent) await SendUpToAsync(due);
            }
            catch (Exception)
            {
                // Closed tells why.
                return;
            }
        }
    }

    private async Task SendUpToAsync(int due)
    {
        var first = _sent;
        for (; _sent < due; _sent++) await _connection.SendAsync("Collect", _sent);
        await _connection.SendAsync("PushFrom", first, due - first, cell.Size);
        if (cell.Pad > 0 && Stopwatch.GetElapsedTime(_echoedAt) < LongCalls) return;
        _echoedAt = Stopwatch.GetTimestamp();
        lock (_gate)
        {
            _echoes.Asked++;
            _echoes.Open++;
        }
        _ = EchoAsync(_echoes.Asked.ToString().PadRight(cell.Pad, 'x'));
    }

    private async Task EchoAsync(string text)
    {
        var right = false;
        try
        {
            right = await _connection.InvokeAsync<string>("Echo", text) == text;
        }
        catch (Exception)
        {
            // Told as a wrong answer.
        }
        lock (_gate)
        {
            _echoes.Open--;
            if (!right) _echoes.Wrong++;
        }
    }

    private void Add(int number)
    {
        lock (_gate)
        {
            if (!_seen.Add(number))
            {
                _received.Doubled++;
                return;
            }
            if (number < _received.Highest) _received.Late++;
            _received.Highest = Math.Max(_received.Highest, number);
        }
    }

    private int[] Counts()
    {
        lock (_gate) return [_seen.Count, _received.Doubled, _received.Late, _received.Highest];
    }

    private object Echoes()
    {
        lock (_gate) return new { asked = _echoes.Asked, wrong = _echoes.Wrong, open = _echoes.Open };
    }

    private object Told() => new { sent = _sent, received = Counts(), echoes = Echoes() };

    private void End(string ended)
    {
        if (Interlocked.Exchange(ref _ended, 1) != 0) return;
        Report.Line(new { ended, sent = _sent, received = Counts(), echoes = Echoes() });
        _over.TrySetResult();
    }
}
