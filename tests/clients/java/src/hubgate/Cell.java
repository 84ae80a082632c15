package hubgate;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.microsoft.signalr.HttpHubConnectionBuilder;
import com.microsoft.signalr.HubConnection;
import com.microsoft.signalr.HubConnectionBuilder;
import com.microsoft.signalr.TransportEnum;
import io.reactivex.rxjava3.core.Observable;
import io.reactivex.rxjava3.core.Single;
import io.reactivex.rxjava3.disposables.Disposable;
import io.reactivex.rxjava3.subjects.ReplaySubject;
import java.io.PrintStream;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** One matrix cell of the official Java client; the steps are those of js/scenario.mjs. */
public final class Cell {
    private static final int MIB = 1 << 20;
    private static final int NUMBERED = 1000;
    private static final Gson GSON = new Gson();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    /** One step: runs until it is done or throws. */
    private interface Step {
        void run() throws Exception;
    }

    private final JsonObject cell;
    private final long limitMs;
    private final Map<String, CompletableFuture<Void>> expected = new ConcurrentHashMap<>();
    private final List<Integer> numbers = Collections.synchronizedList(new ArrayList<>());
    private final CountDownLatch numbered = new CountDownLatch(NUMBERED);
    private HubConnection main;
    private HubConnection observer;
    private String mainId;

    private Cell(JsonObject cell) {
        this.cell = cell;
        this.limitMs = cell.get("stepTimeoutMs").getAsLong();
    }

    public static void main(String[] args) {
        new Cell(GSON.fromJson(args[0], JsonObject.class)).runAll();
        report("done", true);
        System.exit(0);
    }

    private static void report(Object... pairs) {
        JsonObject line = new JsonObject();
        for (int i = 0; i < pairs.length; i += 2) {
            line.add((String) pairs[i], GSON.toJsonTree(pairs[i + 1]));
        }
        OUT.println(line);
    }

    private void runAll() {
        String[] names = {"connect", "invoke", "void", "hub-exception", "unknown-method", "server-stream", "client-stream", "cancel",
            "client-result", "group", "user", "one-mib", "in-order", "clean-stop", "reconnect"};
        Step[] steps = {this::connect, this::invoke, this::voidResult, this::hubException, this::unknownMethod, this::serverStream,
            this::clientStream, this::cancel, this::clientResult, this::group, this::user, this::oneMib, this::inOrder, this::cleanStop,
            () -> { throw new IllegalStateException("the client does not reconnect by itself"); }};
        ExecutorService executor = Executors.newCachedThreadPool();
        boolean connected = true;
        for (int i = 0; i < names.length; i++) {
            JsonObject lacks = cell.getAsJsonObject("lacks");
            if (lacks.has(names[i])) {
                report("step", names[i], "na", lacks.get(names[i]).getAsString());
            } else if (!connected) {
                report("step", names[i], "error", "not connected");
            } else {
                String error = runOne(executor, steps[i]);
                if (error == null) {
                    report("step", names[i], "ok", true);
                } else {
                    report("step", names[i], "error", error);
                    connected = i > 0;
                }
            }
        }
    }

    private String runOne(ExecutorService executor, Step step) {
        Future<?> done = executor.submit(() -> {
            step.run();
            return null;
        });
        try {
            done.get(limitMs, TimeUnit.MILLISECONDS);
            return null;
        } catch (TimeoutException e) {
            return "nothing within " + limitMs + " ms";
        } catch (Exception e) {
            return String.valueOf(e.getCause() == null ? e : e.getCause());
        }
    }

    private String text(String name) {
        return cell.get(name).getAsString();
    }

    private HubConnection build(String path, boolean token) {
        String query = token ? "" : "?user=" + URLEncoder.encode(text("user"), StandardCharsets.UTF_8).replace("+", "%20");
        HttpHubConnectionBuilder builder = HubConnectionBuilder.create(text("base") + path + query)
            .withTransport(text("transport").equals("LongPolling") ? TransportEnum.LONG_POLLING : TransportEnum.WEBSOCKETS);
        if (token) {
            builder.withAccessTokenProvider(Single.just(text("token")));
        }
        HubConnection connection = builder.build();
        connection.on("Message", received -> {
            CompletableFuture<Void> waiting = expected.remove(System.identityHashCode(connection) + received);
            if (waiting != null) {
                waiting.complete(null);
            }
        }, String.class);
        return connection;
    }

    private CompletableFuture<Void> expect(HubConnection connection, String received) {
        CompletableFuture<Void> waiting = new CompletableFuture<>();
        expected.put(System.identityHashCode(connection) + received, waiting);
        return waiting;
    }

    private static void same(Object actual, Object expected, String what) {
        String shown = String.valueOf(actual);
        if (!String.valueOf(expected).equals(shown)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + shown.substring(0, Math.min(200, shown.length())));
        }
    }

    private static void fails(HubConnection connection, String error, String method, Object... args) {
        try {
            connection.invoke(String.class, method, args).blockingGet();
        } catch (RuntimeException e) {
            same(e.getMessage(), error, method);
            return;
        }
        throw new AssertionError(method + " did not fail");
    }

    private void event(String name, int ms) {
        same(observer.invoke(Boolean.class, "WaitForEvent", mainId, name, ms).blockingGet(), true, "event " + name);
    }

    private void connect() {
        main = build("/contract", true);
        observer = build("/contract", false);
        main.on("Numbered", (i, payload) -> {
            numbers.add(i);
            numbered.countDown();
        }, Integer.class, String.class);
        main.onWithResult("Question", question -> Single.just("answer to " + question), String.class);
        main.start().blockingAwait();
        observer.start().blockingAwait();
        mainId = main.invoke(String.class, "ConnectionId").blockingGet();
        same(main.getConnectionId(), mainId, "connectionId");
        same(main.invoke(String.class, "Transport").blockingGet(), text("hubTransport"), "Transport()");
    }

    private void invoke() {
        JsonObject value = GSON.fromJson("{\"text\":\"Grüße, 世界 🦀 \\u001e\",\"list\":[1,-2,3.5,null,true],\"deep\":{\"empty\":{}}}", JsonObject.class);
        same(main.invoke(JsonObject.class, "Echo", value).blockingGet(), value, "Echo");
        same(main.invoke(String.class, "EchoText", "plain").blockingGet(), "plain", "EchoText");
        same(main.invoke(Integer.class, "Add", 40, 2).blockingGet(), 42, "Add");
    }

    private void voidResult() {
        main.invoke("Void").blockingAwait();
        event("void", 15000);
    }

    private void hubException() {
        fails(main, "An unexpected error occurred invoking 'ThrowHub' on the server. HubException: my text", "ThrowHub", "my text");
        fails(main, "An unexpected error occurred invoking 'Throw' on the server.", "Throw");
    }

    private void unknownMethod() {
        fails(main, "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.", "NoSuchMethod");
    }

    private static List<Integer> upTo(int n) {
        return IntStream.range(0, n).boxed().collect(Collectors.toList());
    }

    private void serverStream() {
        same(main.stream(Integer.class, "Counter", 100).toList().blockingGet(), upTo(100), "Counter");
        try {
            main.stream(Integer.class, "CounterThenThrow", 3).toList().blockingGet();
        } catch (RuntimeException e) {
            same(e.getMessage(), "An error occurred on the server while streaming results. HubException: stream broke", "CounterThenThrow");
            return;
        }
        throw new AssertionError("CounterThenThrow ended well");
    }

    private <T> Object upload(String method, Class<?> result, List<T> items) {
        ReplaySubject<T> subject = ReplaySubject.create();
        Single<?> answer = main.invoke(result, method, subject);
        items.forEach(subject::onNext);
        subject.onComplete();
        return answer.blockingGet();
    }

    /** Over long polling each message is a POST of its own, sent at once, so only what waits for the hub's answer keeps its order. */
    private boolean posts() {
        return text("transport").equals("LongPolling");
    }

    private void clientStream() {
        if (posts()) {
            // The first item can overtake the invocation, and is lost then: it is sent again until its double comes.
            ReplaySubject<Integer> subject = ReplaySubject.create();
            Iterable<Integer> doubled = main.stream(Integer.class, "StreamBoth", subject).blockingIterable();
            Disposable first = Observable.interval(0, 200, TimeUnit.MILLISECONDS).subscribe(i -> subject.onNext(0));
            int next = 0;
            for (int item : doubled) {
                first.dispose();
                if (item == 0 && next > 0) {
                    continue;
                }
                same(item, 2 * next, "StreamBoth");
                next++;
                if (next < 100) {
                    subject.onNext(next);
                } else {
                    subject.onComplete();
                }
            }
            same(next, 100, "items of StreamBoth");
            return;
        }
        same(upload("Upload", Integer.class, IntStream.rangeClosed(1, 100).boxed().collect(Collectors.toList())), 5050, "Upload");
        same(upload("UploadStrings", String.class, List.of("a", "ß", "🦀")), "aß🦀", "UploadStrings");
    }

    private void cancel() throws Exception {
        List<Integer> items = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch three = new CountDownLatch(3);
        Disposable subscription = main.stream(Integer.class, "Ticks", 10).subscribe(item -> {
            items.add(item);
            three.countDown();
        });
        three.await();
        subscription.dispose();
        same(List.copyOf(items).subList(0, 3), List.of(0, 1, 2), "Ticks");
        event("stream-cancelled", 15000);
    }

    private void clientResult() {
        same(main.invoke(String.class, "Ask", "one").blockingGet(), "answer to one", "Ask");
        same(observer.invoke(String.class, "AskOn", mainId, "two").blockingGet(), "answer to two", "AskOn");
    }

    private void group() throws Exception {
        String group = "group of " + text("name");
        main.invoke("JoinGroup", group).blockingAwait();
        CompletableFuture<Void> first = expect(main, "to one");
        observer.invoke("SendToGroup", group, "to one").blockingAwait();
        first.get();
        observer.invoke("JoinGroup", group).blockingAwait();
        List<CompletableFuture<Void>> both = List.of(expect(main, "to both"), expect(observer, "to both"));
        main.invoke("SendToGroup", group, "to both").blockingAwait();
        for (CompletableFuture<Void> one : both) {
            one.get();
        }
        main.invoke("LeaveGroup", group).blockingAwait();
        CompletableFuture<Void> stray = expect(main, "after leaving");
        observer.invoke("SendToGroup", group, "after leaving").blockingAwait();
        main.invoke(String.class, "Echo", "behind it").blockingGet();
        same(stray.isDone(), false, "a message after LeaveGroup");
    }

    private void user() throws Exception {
        same(main.invoke(String.class, "User").blockingGet(), text("user"), "User() by token");
        same(observer.invoke(String.class, "User").blockingGet(), text("user"), "User() by query");
        List<CompletableFuture<Void>> both = List.of(expect(main, "to the user"), expect(observer, "to the user"));
        observer.invoke("SendToUser", text("user"), "to the user").blockingAwait();
        for (CompletableFuture<Void> one : both) {
            one.get();
        }
    }

    private void oneMib() {
        HubConnection large = build("/contract-large", true);
        large.start().blockingAwait();
        same(large.invoke(Integer.class, "Length", "y".repeat(MIB)).blockingGet(), MIB, "Length");
        same(large.invoke(String.class, "Big", MIB).blockingGet().equals("x".repeat(MIB)), true, "Big");
        large.stop().blockingAwait();
    }

    private void inOrder() throws Exception {
        for (int i = 0; i < NUMBERED; i++) {
            if (posts()) {
                main.invoke("Collect", i).blockingAwait();
            } else {
                main.send("Collect", i);
            }
        }
        same(main.invoke(List.class, "Collected").blockingGet(), List.of((double) NUMBERED, 0.0), "Collected");
        main.invoke("Push", NUMBERED, 64).blockingAwait();
        numbered.await();
        same(numbers, upTo(NUMBERED), "Numbered");
    }

    private void cleanStop() {
        main.stop().blockingAwait();
        event("disconnected", 15000);
        // An absent result cannot be awaited as a value by this client: it must complete without one.
        observer.invoke("DisconnectError", mainId).blockingAwait();
    }
}
