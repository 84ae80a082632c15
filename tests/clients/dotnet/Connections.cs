// Builds a HubConnection over WebSockets, with the official packages or over the connection of this program.

using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.SignalR.Client;
using Microsoft.Extensions.DependencyInjection;
#if OWN_CONNECTION
using Hubs.MessagePack;
#else
using Microsoft.AspNetCore.Http.Connections;
#endif

namespace ClientCell;

public static class Connections
{
    private static readonly TimeSpan[] Delays = [.. new[] { 0, 100, 500, 1000, 2000 }.Select(ms => TimeSpan.FromMilliseconds(ms))];

    /// <summary>An unstarted connection, with a token or without one: stateful, or one that reconnects by itself.</summary>
    public static HubConnection Build(string url, string? token, bool messagePack, bool stateful = false)
    {
        var builder = new HubConnectionBuilder();
#if OWN_CONNECTION
        builder.Services.AddSingleton<IConnectionFactory>(new WebSocketConnectionFactory());
        builder.Services.AddSingleton<EndPoint>(new HubEndPoint(new Uri(url), token, messagePack, stateful));
        if (messagePack) builder.AddWorkerMessagePack();
#else
        builder.WithUrl(url, HttpTransportType.WebSockets, options =>
        {
            if (token is not null) options.AccessTokenProvider = () => Task.FromResult<string?>(token);
        });
        if (messagePack) builder.AddMessagePackProtocol();
#endif
        if (!stateful) builder.WithAutomaticReconnect(Delays);
#if !OWN_CONNECTION
        if (stateful) builder.WithStatefulReconnect();
#endif
        return builder.Build();
    }
}
