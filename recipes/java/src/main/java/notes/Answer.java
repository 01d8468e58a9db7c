package notes;

import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** A response: a status and a JSON body, empty for none. */
record Answer(int status, String body) {
    static Answer ok(String body) {
        return new Answer(200, body);
    }

    static Answer error(int status, String message) {
        return new Answer(status, "{\"error\":" + Json.quote(message) + "}");
    }

    void send(HttpExchange exchange) throws IOException {
        byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        boolean bodiless = bytes.length == 0 || exchange.getRequestMethod().equals("HEAD");
        if (bytes.length > 0) {
            exchange.getResponseHeaders().set("Content-Type", "application/json; charset=utf-8");
        }
        // For this server -1 means "no body" and 0 means "chunked".
        exchange.sendResponseHeaders(status, bodiless ? -1 : bytes.length);
        if (!bodiless) {
            exchange.getResponseBody().write(bytes);
        }
    }
}
