import java.io.*;
import java.net.*;
import java.net.http.*;
import java.time.Duration;

/** An HTTP client: executes one command per line, on connections that the library keeps, and answers with one line. */
class HttpPool {
    public static void main(String[] arguments) throws Exception {
        var http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var commands = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready");
        for (String line; (line = commands.readLine()) != null;) {
            var words = line.split(" ");
            var request = HttpRequest.newBuilder(URI.create(words[1]));
            if (words[0].equals("post")) {
                request.POST(HttpRequest.BodyPublishers.ofString(""));
            } else {
                request.timeout(Duration.ofMillis((long) (Double.parseDouble(words[2]) * 1000)));
            }
            try {
                System.out.println(http.send(request.build(), HttpResponse.BodyHandlers.discarding()).statusCode());
            } catch (IOException error) {
                System.out.println(error.getClass().getSimpleName());
            }
        }
        System.exit(0);
    }
}
