package hubgate;

import com.google.gson.Gson;
import com.microsoft.signalr.HubConnection;
import com.microsoft.signalr.HubConnectionBuilder;
import com.microsoft.signalr.TransportEnum;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** What lost/scenario.mjs does, with the official Java client over long polling: {@code Lost URL}. */
public final class Lost {
    public static void main(String[] args) throws InterruptedException {
        List<String> got = Collections.synchronizedList(new ArrayList<>());
        BlockingQueue<String> events = new LinkedBlockingQueue<>();
        HubConnection connection = HubConnectionBuilder.create(args[0]).withTransport(TransportEnum.LONG_POLLING).build();
        connection.on("Message", text -> {
            got.add(text);
            events.add(text);
        }, String.class);
        connection.onClosed(error -> events.add(error == null ? "closed" : "closed with an error"));
        connection.start().blockingAwait();
        String ends = "goes on";
        for (String text : List.of("one", "LOST-IN-TRANSIT", "three", "four")) {
            connection.send("SendToCaller", text);
            String event = events.take();
            if (!event.equals(text)) {
                ends = event;
                break;
            }
        }
        System.out.println(new Gson().toJson(Map.of("got", got, "ends", ends)));
        System.exit(0);
    }

    private Lost() {}
}
