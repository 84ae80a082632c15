// One matrix cell of Microsoft's .NET client, or one numbered run: the cell as JSON in, one JSON report a line out (the runner's README tells both).

using System.Text;
using System.Text.Json;
using ClientCell;

Console.OutputEncoding = new UTF8Encoding(false);
var web = new JsonSerializerOptions(JsonSerializerDefaults.Web);
if (JsonDocument.Parse(args[0]).RootElement.TryGetProperty("run", out _))
{
    await new Numbered(JsonSerializer.Deserialize<NumberedCell>(args[0], web)!).RunAsync();
}
else
{
    await new Scenario(JsonSerializer.Deserialize<Cell>(args[0], web)!).RunAsync();
    Report.Line(new { done = true });
}
Environment.Exit(0);

/// <summary>What the runner tells.</summary>
public sealed record Cell(
    string Name, string Base, string CutBase, string HubTransport, string Protocol, string User, string Token, int StepTimeoutMs,
    Dictionary<string, string> Lacks);

public static class Report
{
    public static void Line(object line) => Console.WriteLine(JsonSerializer.Serialize(line));
}
