package notes;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

/** Asks the service of this machine for a path and prints the answer: the image's health check needs no curl. */
public final class Probe {
    private Probe() {}

    public static void main(String[] args) {
        String path = args.length > 0 ? args[0] : "/health";
        URI uri = URI.create("http://127.0.0.1:" + Main.port() + path);
        try {
            HttpRequest request = HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(4)).build();
            HttpResponse<String> response =
                    HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.body());
            System.exit(response.statusCode() < 400 ? 0 : 1);
        } catch (java.io.IOException | InterruptedException e) {
            System.err.println("probe: " + uri + ": " + e);
            System.exit(1);
        }
    }
}
