package notes;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;

/**
 * The HTTP side.
 *
 * <pre>
 * GET    /health           {"status":"up","notes":2}
 * GET    /hello?name=Ada   {"greeting":"Hello, Ada!"}
 * GET    /notes            all notes, oldest first
 * POST   /notes            keeps the request's body as a note: 201
 * GET    /notes/ID         one note
 * PUT    /notes/ID         gives it a new text
 * DELETE /notes/ID         204
 * </pre>
 */
final class NotesServer implements AutoCloseable {
    private static final int MAX_TEXT = 64 * 1024;

    private interface Handler {
        Answer handle(HttpExchange exchange) throws IOException;
    }

    private final Notes notes;
    private final HttpServer server;
    private final ExecutorService threads = Executors.newFixedThreadPool(8);

    /** Listens on {@code port}; 0 lets the kernel pick one. Nothing is answered before {@link #start}. */
    NotesServer(int port, Notes notes) throws IOException {
        this.notes = notes;
        server = HttpServer.create(new InetSocketAddress(port), 0);
        server.setExecutor(threads);
        route("/", exchange -> Answer.error(404, "no such page"));
        route("/health", this::health);
        route("/hello", this::hello);
        route("/notes", this::collection);
        route("/notes/", this::single);
    }

    int port() {
        return server.getAddress().getPort();
    }

    void start() {
        server.start();
    }

    /** Stops listening, and lets requests that are under way finish for a second. */
    @Override
    public void close() {
        server.stop(1);
        threads.shutdown();
    }

    private void route(String prefix, Handler handler) {
        server.createContext(prefix, exchange -> {
            try (exchange) {
                Answer answer;
                try {
                    answer = handler.handle(exchange);
                } catch (RuntimeException bug) {
                    bug.printStackTrace();
                    answer = Answer.error(500, "internal error");
                }
                answer.send(exchange);
            }
        });
    }

    private Answer health(HttpExchange exchange) {
        return Answer.ok("{\"status\":\"up\",\"notes\":" + notes.all().size() + "}");
    }

    private Answer hello(HttpExchange exchange) {
        String name = parameter(exchange, "name", "world");
        return Answer.ok("{\"greeting\":" + Json.quote("Hello, " + name + "!") + "}");
    }

    private Answer collection(HttpExchange exchange) throws IOException {
        if (!exchange.getRequestURI().getPath().equals("/notes")) {
            return Answer.error(404, "no such page"); // contexts match by prefix: /notesfoo comes here too
        }
        return switch (exchange.getRequestMethod()) {
            case "GET", "HEAD" -> Answer.ok(
                    notes.all().stream().map(Note::toJson).collect(Collectors.joining(",", "[", "]")));
            case "POST" -> {
                String text = text(exchange);
                yield text == null ? tooLarge() : new Answer(201, notes.add(text).toJson());
            }
            default -> notAllowed(exchange, "GET, HEAD, POST");
        };
    }

    private Answer single(HttpExchange exchange) throws IOException {
        long id;
        try {
            id = Long.parseLong(exchange.getRequestURI().getPath().substring("/notes/".length()));
        } catch (NumberFormatException e) {
            return noSuchNote();
        }
        return switch (exchange.getRequestMethod()) {
            case "GET", "HEAD" -> notes.get(id).map(note -> Answer.ok(note.toJson())).orElse(noSuchNote());
            case "PUT" -> {
                String text = text(exchange);
                yield text == null
                        ? tooLarge()
                        : notes.replace(id, text).map(note -> Answer.ok(note.toJson())).orElse(noSuchNote());
            }
            case "DELETE" -> notes.delete(id) ? new Answer(204, "") : noSuchNote();
            default -> notAllowed(exchange, "GET, HEAD, PUT, DELETE");
        };
    }

    /** Returns the body as text, or null if it is longer than a note may be. */
    private static String text(HttpExchange exchange) throws IOException {
        try (InputStream body = exchange.getRequestBody()) {
            byte[] bytes = body.readNBytes(MAX_TEXT + 1);
            return bytes.length > MAX_TEXT ? null : new String(bytes, StandardCharsets.UTF_8);
        }
    }

    private static String parameter(HttpExchange exchange, String name, String fallback) {
        String query = exchange.getRequestURI().getRawQuery();
        if (query == null) {
            return fallback;
        }
        for (String pair : query.split("&")) {
            if (pair.startsWith(name + "=")) {
                return URLDecoder.decode(pair.substring(name.length() + 1), StandardCharsets.UTF_8);
            }
        }
        return fallback;
    }

    private static Answer noSuchNote() {
        return Answer.error(404, "no such note");
    }

    private static Answer tooLarge() {
        return Answer.error(413, "a note has at most " + MAX_TEXT + " bytes");
    }

    private static Answer notAllowed(HttpExchange exchange, String methods) {
        exchange.getResponseHeaders().set("Allow", methods);
        return Answer.error(405, "allowed here: " + methods);
    }
}
