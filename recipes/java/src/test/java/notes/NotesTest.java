package notes;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import java.util.Optional;

/** The tests, with what the JDK has: each throws if its property does not hold. */
public final class NotesTest {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static int checks;

    private NotesTest() {}

    public static void main(String[] args) throws Exception {
        quotingIsJson();
        notesAreKeptInOrder();
        aDeletedNoteIsNotBroughtBack();
        try (NotesServer server = new NotesServer(0, new Notes())) {
            server.start();
            String base = "http://127.0.0.1:" + server.port();
            greets(base);
            keepsNotesOverHttp(base);
            refusesWhatItCannotDo(base);
        }
        System.out.println(checks + " checks passed");
    }

    private static void quotingIsJson() {
        same("\"a\\\"b\\\\c\\n\\u0001ä\"", Json.quote("a\"b\\c\n\u0001ä"));
        same("\"\"", Json.quote(""));
    }

    private static void notesAreKeptInOrder() {
        Notes notes = new Notes();
        Note first = notes.add("one");
        Note second = notes.add("two");
        same(List.of(first, second), notes.all());
        same(Optional.of(new Note(first.id(), "uno")), notes.replace(first.id(), "uno"));
        same("uno", notes.all().get(0).text());
    }

    private static void aDeletedNoteIsNotBroughtBack() {
        Notes notes = new Notes();
        long id = notes.add("gone").id();
        same(true, notes.delete(id));
        same(false, notes.delete(id));
        same(Optional.empty(), notes.replace(id, "back"));
        same(List.of(), notes.all());
        same(false, notes.add("new").id() == id);
    }

    private static void greets(String base) throws Exception {
        same("{\"greeting\":\"Hello, world!\"}", send("GET", base + "/hello", null).body());
        same("{\"greeting\":\"Hello, Ada & Co!\"}", send("GET", base + "/hello?name=Ada+%26+Co", null).body());
        same("{\"status\":\"up\",\"notes\":0}", send("GET", base + "/health", null).body());
    }

    private static void keepsNotesOverHttp(String base) throws Exception {
        HttpResponse<String> added = send("POST", base + "/notes", "buy \"milk\"");
        same(201, added.statusCode());
        same("{\"id\":1,\"text\":\"buy \\\"milk\\\"\"}", added.body());
        same("[" + added.body() + "]", send("GET", base + "/notes", null).body());
        same("{\"id\":1,\"text\":\"buy bread\"}", send("PUT", base + "/notes/1", "buy bread").body());
        same("{\"id\":1,\"text\":\"buy bread\"}", send("GET", base + "/notes/1", null).body());
        same(204, send("DELETE", base + "/notes/1", null).statusCode());
        same(404, send("GET", base + "/notes/1", null).statusCode());
        same("[]", send("GET", base + "/notes", null).body());
    }

    private static void refusesWhatItCannotDo(String base) throws Exception {
        same(404, send("GET", base + "/nowhere", null).statusCode());
        same(404, send("GET", base + "/notesfoo", null).statusCode());
        same(404, send("GET", base + "/notes/first", null).statusCode());
        same(413, send("POST", base + "/notes", "x".repeat(64 * 1024 + 1)).statusCode());
        HttpResponse<String> refused = send("DELETE", base + "/notes", null);
        same(405, refused.statusCode());
        same(Optional.of("GET, HEAD, POST"), refused.headers().firstValue("Allow"));
    }

    private static HttpResponse<String> send(String method, String uri, String body)
            throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(uri))
                .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body))
                .build();
        return CLIENT.send(request, BodyHandlers.ofString());
    }

    private static void same(Object expected, Object actual) {
        if (!expected.equals(actual)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
        checks++;
    }
}
