// A thin connection for HubConnection where Microsoft's HTTP transports are not at hand: negotiate (version 1), then one WebSocket.
//
// Why: HubConnection brings handshake, keep-alive, protocols and automatic reconnect; all it needs below is a duplex pipe.

using System.IO.Pipelines;
using System.Net;
using System.Net.WebSockets;
using System.Text.Json;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;

namespace ClientCell;

/// <summary>Where to connect and how.</summary>
public sealed class HubEndPoint(Uri url, string? token, bool binary) : EndPoint
{
    public Uri Url { get; } = url;
    public string? Token { get; } = token;
    public bool Binary { get; } = binary;
}

public sealed class WebSocketConnectionFactory : IConnectionFactory
{
    private static readonly HttpClient Http = new(new SocketsHttpHandler { PooledConnectionLifetime = TimeSpan.Zero });

    public async ValueTask<ConnectionContext> ConnectAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        var hub = (HubEndPoint)endpoint;
        var query = hub.Url.Query.TrimStart('?');
        var negotiate = new UriBuilder(hub.Url) { Path = hub.Url.AbsolutePath + "/negotiate", Query = Join(query, "negotiateVersion=1") };
        using var request = new HttpRequestMessage(HttpMethod.Post, negotiate.Uri);
        if (hub.Token is not null) request.Headers.Authorization = new("Bearer", hub.Token);
        using var response = await Http.SendAsync(request, cancellationToken);
        response.EnsureSuccessStatusCode();
        using var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync(cancellationToken));
        var id = answer.RootElement.GetProperty("connectionId").GetString()!;
        var token = answer.RootElement.GetProperty("connectionToken").GetString()!;

        var socket = new ClientWebSocket();
        if (hub.Token is not null) socket.Options.SetRequestHeader("Authorization", "Bearer " + hub.Token);
        var address = new UriBuilder(hub.Url) { Scheme = hub.Url.Scheme == "https" ? "wss" : "ws", Query = Join(query, "id=" + token) };
        await socket.ConnectAsync(address.Uri, cancellationToken);
        return new WebSocketConnection(id, socket, hub.Binary);
    }

    private static string Join(string query, string more) => query.Length == 0 ? more : query + "&" + more;
}

/// <summary>Pumps whole batches of the hub's bytes between a pipe and the socket's messages.</summary>
public sealed class WebSocketConnection : ConnectionContext
{
    private readonly WebSocket _socket;
    private readonly WebSocketMessageType _type;
    private readonly IDuplexPipe _application;
    private readonly Task _pumps;

    public WebSocketConnection(string connectionId, WebSocket socket, bool binary)
    {
        ConnectionId = connectionId;
        _socket = socket;
        _type = binary ? WebSocketMessageType.Binary : WebSocketMessageType.Text;
        var (input, output) = (new Pipe(), new Pipe());
        Transport = new Duplex(input.Reader, output.Writer);
        _application = new Duplex(output.Reader, input.Writer);
        _pumps = Task.WhenAll(Task.Run(ReceiveAsync), Task.Run(SendAsync));
    }

    private sealed record Duplex(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    public override string ConnectionId { get; set; }
    public override IFeatureCollection Features { get; } = new FeatureCollection();
    public override IDictionary<object, object?> Items { get; set; } = new Dictionary<object, object?>();
    public override IDuplexPipe Transport { get; set; }

    public override void Abort() => _socket.Abort();

    public override async ValueTask DisposeAsync()
    {
        await Transport.Output.CompleteAsync();
        await Transport.Input.CompleteAsync();
        await _pumps;
        _socket.Dispose();
    }

    private async Task ReceiveAsync()
    {
        Exception? error = null;
        try
        {
            while (true)
            {
                var received = await _socket.ReceiveAsync(_application.Output.GetMemory(16 * 1024), CancellationToken.None);
                if (received.MessageType == WebSocketMessageType.Close) break;
                _application.Output.Advance(received.Count);
                if ((await _application.Output.FlushAsync()).IsCompleted) break;
            }
        }
        catch (Exception e) when (e is WebSocketException or OperationCanceledException or ObjectDisposedException)
        {
            error = e;
        }
        await _application.Output.CompleteAsync(error);
        _application.Input.CancelPendingRead();
    }

    private async Task SendAsync()
    {
        try
        {
            while (true)
            {
                var read = await _application.Input.ReadAsync();
                if (read.IsCanceled) break;
                foreach (var part in read.Buffer)
                {
                    // The hub joins what it gets, so a message per segment is as good as one for all.
                    if (part.Length > 0) await _socket.SendAsync(part, _type, endOfMessage: true, CancellationToken.None);
                }
                _application.Input.AdvanceTo(read.Buffer.End);
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
        await _application.Input.CompleteAsync();
    }
}
