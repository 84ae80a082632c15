// YARP as a peer: forwards every request to one destination and does nothing else.
// Arguments: --urls http://ADDRESS:PORT --to http://ADDRESS:PORT
using Yarp.ReverseProxy.Configuration;

var builder = WebApplication.CreateSlimBuilder(args);
builder.Logging.SetMinimumLevel(LogLevel.Error);
var destination = builder.Configuration["to"] ?? throw new ArgumentException("--to URL is missing");
builder.Services.AddReverseProxy().LoadFromMemory(
    [new RouteConfig { RouteId = "all", ClusterId = "hubs", Match = new RouteMatch { Path = "/{**rest}" } }],
    [new ClusterConfig
    {
        ClusterId = "hubs",
        Destinations = new Dictionary<string, DestinationConfig> { ["hub"] = new() { Address = destination } },
    }]);

var app = builder.Build();
app.MapReverseProxy();
app.Run();
