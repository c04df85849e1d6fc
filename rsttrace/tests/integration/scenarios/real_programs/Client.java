import java.io.*;
import java.net.*;
import java.net.http.*;
import java.util.*;
import java.util.concurrent.*;

/** Executes one command per line, each in a thread of a pool, and answers with one line. */
class Client {
    static final Map<String, Socket> sockets = new ConcurrentHashMap<>();
    static final HttpClient http = HttpClient.newHttpClient();
    static InetSocketAddress server;

    public static void main(String[] arguments) throws Exception {
        server = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0]));
        var pool = Executors.newFixedThreadPool(3);
        var commands = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line; (line = commands.readLine()) != null;) {
            var words = line.split(" ");
            System.out.println(pool.submit(() -> obey(words[0], words[1])).get());
        }
        System.exit(0);
    }

    static String obey(String verb, String name) throws Exception {
        var socket = sockets.get(name);
        switch (verb) {
            case "connect":
                socket = new Socket();
                socket.connect(server);
                sockets.put(name, socket);
                return "127.0.0.1:" + socket.getLocalPort();
            case "abort":
                socket.setSoLinger(true, 0);
                socket.close();
                return "closed";
            case "leave":
                // Closes with all but the first byte unread.
                socket.getInputStream().read();
                socket.close();
                return "closed";
            case "read":
                try {
                    return "read " + socket.getInputStream().read();
                } catch (SocketException error) {
                    return error.getMessage();
                }
            case "get":
                var page = URI.create("http://127.0.0.1:" + server.getPort() + "/" + name);
                var request = HttpRequest.newBuilder(page).version(HttpClient.Version.HTTP_1_1).build();
                return "status " + http.send(request, HttpResponse.BodyHandlers.discarding()).statusCode();
            default:
                return "what?";
        }
    }
}
