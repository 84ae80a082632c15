// A thin connection for HubConnection where Microsoft's HTTP transports are not at hand: negotiate (version 1), then one WebSocket,
// and with stateful reconnect one more whenever that is lost.
//
// Why: HubConnection brings handshake, keep-alive, protocols, automatic reconnect and its half of stateful reconnect; all it needs below
// is a duplex pipe, and a feature that calls it back once there is a new socket.

using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.WebSockets;
using System.Text.Json;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Abstractions;
using Microsoft.AspNetCore.Http.Features;

namespace ClientCell;

/// <summary>Where to connect and how.</summary>
public sealed class HubEndPoint(Uri url, string? token, bool binary, bool stateful) : EndPoint
{
    public Uri Url { get; } = url;
    public string? Token { get; } = token;
    public bool Binary { get; } = binary;
    public bool Stateful { get; } = stateful;
}

public sealed class WebSocketConnectionFactory : IConnectionFactory
{
    private static readonly HttpClient Http = new(new SocketsHttpHandler { PooledConnectionLifetime = TimeSpan.Zero });

    public async ValueTask<ConnectionContext> ConnectAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        var hub = (HubEndPoint)endpoint;
        var query = hub.Url.Query.TrimStart('?');
        var asked = hub.Stateful ? "negotiateVersion=1&useStatefulReconnect=true" : "negotiateVersion=1";
        var negotiate = new UriBuilder(hub.Url) { Path = hub.Url.AbsolutePath + "/negotiate", Query = Join(query, asked) };
        using var request = new HttpRequestMessage(HttpMethod.Post, negotiate.Uri);
        if (hub.Token is not null) request.Headers.Authorization = new("Bearer", hub.Token);
        using var response = await Http.SendAsync(request, cancellationToken);
        response.EnsureSuccessStatusCode();
        using var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync(cancellationToken));
        var id = answer.RootElement.GetProperty("connectionId").GetString()!;
        var token = answer.RootElement.GetProperty("connectionToken").GetString()!;
        var granted = answer.RootElement.TryGetProperty("useStatefulReconnect", out var said) && said.GetBoolean();
        if (hub.Stateful && !granted) throw new InvalidOperationException("stateful reconnect was asked for and not granted");

        var address = new UriBuilder(hub.Url) { Scheme = hub.Url.Scheme == "https" ? "wss" : "ws", Query = Join(query, "id=" + token) };
        async Task<WebSocket> OpenAsync(CancellationToken cancelled)
        {
            var socket = new ClientWebSocket();
            if (hub.Token is not null) socket.Options.SetRequestHeader("Authorization", "Bearer " + hub.Token);
            await socket.ConnectAsync(address.Uri, cancelled);
            return socket;
        }
        return new WebSocketConnection(id, await OpenAsync(cancellationToken), hub.Binary, hub.Stateful ? OpenAsync : null);
    }

    private static string Join(string query, string more) => query.Length == 0 ? more : query + "&" + more;
}

/// <summary>Pumps whole batches of the hub's bytes between a pipe and the socket's messages.</summary>
public sealed class WebSocketConnection : ConnectionContext, IStatefulReconnectFeature
{
    private static readonly PipeOptions Buffered = new(pauseWriterThreshold: 1 << 20, resumeWriterThreshold: 1 << 19, useSynchronizationContext: false);
    private static readonly TimeSpan CloseTimeout = TimeSpan.FromSeconds(5);

    private readonly WebSocketMessageType _type;
    private readonly Func<CancellationToken, Task<WebSocket>>? _reopen;
    private readonly CancellationTokenSource _stopping = new();
    private readonly Task _running;
    private Func<PipeWriter, Task>? _reconnected;
    private IDuplexPipe _application;
    private WebSocket _socket;
    private volatile bool _graceful;

    /// <param name="reopen">Opens the next socket of the same connection after a loss; without it a loss is the end.</param>
    public WebSocketConnection(string connectionId, WebSocket socket, bool binary, Func<CancellationToken, Task<WebSocket>>? reopen = null)
    {
        ConnectionId = connectionId;
        _socket = socket;
        _reopen = reopen;
        _type = binary ? WebSocketMessageType.Binary : WebSocketMessageType.Text;
        var (input, output) = (new Pipe(Buffered), new Pipe(Buffered));
        Transport = new Duplex(input.Reader, output.Writer);
        _application = new Duplex(output.Reader, input.Writer);
        if (reopen is not null) Features.Set<IStatefulReconnectFeature>(this);
        _running = Task.Run(RunAsync);
    }

    private sealed record Duplex(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    public override string ConnectionId { get; set; }
    public override IFeatureCollection Features { get; } = new FeatureCollection();
    public override IDictionary<object, object?> Items { get; set; } = new Dictionary<object, object?>();
    public override IDuplexPipe Transport { get; set; }

    public void OnReconnected(Func<PipeWriter, Task> notifyOnReconnected) => _reconnected += notifyOnReconnected;

    public void DisableReconnect() => _graceful = true;

    public override void Abort() => _socket.Abort();

    public override async ValueTask DisposeAsync()
    {
        _graceful = true;
        await Transport.Output.CompleteAsync();
        await Transport.Input.CompleteAsync();
        _stopping.CancelAfter(CloseTimeout);
        await _running;
        _stopping.Dispose();
    }

    /// <summary>Carries one socket after the other until one ends gracefully, or no next one is to be had.</summary>
    private async Task RunAsync()
    {
        Exception? error;
        for (var resumed = false; ; resumed = true)
        {
            error = await CarryAsync(resumed);
            _socket.Dispose();
            if (_reopen is null || _graceful) break;
            try
            {
                // As Microsoft's transport: one attempt, and what it refuses ends the connection without an error.
                error = null;
                _socket = await _reopen(_stopping.Token);
            }
            catch (Exception e) when (e is WebSocketException or HttpRequestException or OperationCanceledException)
            {
                break;
            }
            await ReplaceOutputAsync();
        }
        await _application.Output.CompleteAsync(error);
        await _application.Input.CompleteAsync();
    }

    /// <summary>What was written and not sent is dropped: HubConnection repeats it behind its Sequence.</summary>
    private async Task ReplaceOutputAsync()
    {
        var (previous, output) = (_application.Input, new Pipe(Buffered));
        _application = new Duplex(output.Reader, _application.Output);
        Transport = new Duplex(Transport.Input, output.Writer);
        await previous.CompleteAsync();
    }

    private async Task<Exception?> CarryAsync(bool resumed)
    {
        var receiving = Task.Run(ReceiveAsync);
        var sending = Task.Run(SendAsync);
        if (resumed && _reconnected is not null) await _reconnected(Transport.Output);
        if (await Task.WhenAny(receiving, sending) == receiving) _application.Input.CancelPendingRead();
        if (await Task.WhenAny(Task.WhenAll(receiving, sending), Task.Delay(CloseTimeout)) is { IsCompleted: true })
        {
            // Aborting what has ended changes nothing; what has not ends now.
            _socket.Abort();
            _application.Output.CancelPendingFlush();
        }
        await sending;
        return await receiving;
    }

    private async Task<Exception?> ReceiveAsync()
    {
        try
        {
            while (true)
            {
                // Pieces as large as those of Microsoft's transport: a longer message that is cut leaves its head behind.
                var received = await _socket.ReceiveAsync(_application.Output.GetMemory(4096), CancellationToken.None);
                if (received.MessageType == WebSocketMessageType.Close)
                {
                    _graceful = true;
                    return null;
                }
                _application.Output.Advance(received.Count);
                if ((await _application.Output.FlushAsync()).IsCompleted) return null;
            }
        }
        catch (Exception e) when (e is WebSocketException or OperationCanceledException or ObjectDisposedException)
        {
            return e;
        }
    }

    /// <summary>One message, a fragment for each segment, as Microsoft's transport does it.</summary>
    private async Task SendMessageAsync(ReadOnlySequence<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var part = bytes.First;
            bytes = bytes.Slice(part.Length);
            await _socket.SendAsync(part, _type, endOfMessage: bytes.IsEmpty, CancellationToken.None);
        }
    }

    private async Task SendAsync()
    {
        var input = _application.Input;
        try
        {
            while (true)
            {
                var read = await input.ReadAsync();
                if (read.IsCanceled) break;
                await SendMessageAsync(read.Buffer);
                input.AdvanceTo(read.Buffer.End);
                if (read.IsCompleted) break;
            }
            if (_socket.State is WebSocketState.Open or WebSocketState.CloseReceived)
            {
                await _socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, CancellationToken.None);
            }
        }
        catch (Exception e) when (e is WebSocketException or OperationCanceledException or ObjectDisposedException)
        {
            _socket.Abort();
        }
    }
}
