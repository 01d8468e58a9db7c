package notes;

import java.io.IOException;

/** Starts the service on the port that PORT names (8080 unless set), and stops it cleanly when it is told to. */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws IOException {
        NotesServer server = new NotesServer(port(), new Notes());
        // SIGTERM, which is what stops a container, runs the shutdown hooks.
        Runtime.getRuntime().addShutdownHook(new Thread(server::close));
        server.start();
        System.out.println("notes: listening on port " + server.port());
    }

    /** Returns the port of the environment. Ends the program, with a message, if it is none. */
    static int port() {
        String port = System.getenv().getOrDefault("PORT", "8080");
        if (!port.matches("[0-9]{1,5}") || Integer.parseInt(port) > 65535) {
            System.err.println("notes: PORT is no port number: " + port);
            System.exit(2);
        }
        return Integer.parseInt(port);
    }
}
