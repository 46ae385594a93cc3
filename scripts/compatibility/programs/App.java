// The application on the JDK's server, Jetty and Tomcat: `App SERVER PORT`; `app.py` says what its paths do.
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.Executors;

public class App {
    static final byte[] HALF = "x".repeat(1000).getBytes();

    /** What the three servers have in common of a request and its answer. */
    interface Exchange {
        String path();
        String operation();
        InputStream body() throws IOException;
        void field(String name, String value);
        OutputStream begin(int status, long length) throws IOException;
    }

    static void handle(Exchange exchange) throws Exception {
        String path = exchange.path();
        String what = path.substring(path.lastIndexOf('/') + 1);
        if (!what.equals("early") && !what.equals("refuse")) exchange.body().readAllBytes();
        if (what.equals("slow")) {
            Files.writeString(Path.of(System.getenv("EXECUTED")), exchange.operation() + "\n",
                    StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            Thread.sleep(200);
        }
        exchange.field("Content-Type", "text/plain");
        if (what.equals("fields")) for (int n = 0; n < 150; n++) exchange.field("X-Field-" + n, "1");
        if (what.startsWith("cut")) {
            OutputStream out = exchange.begin(200, what.equals("cut") ? 0 : 5000);
            out.write(HALF);
            out.flush();
            Thread.sleep(100);
            out.write(HALF);
            out.flush();
            throw new IllegalStateException("the application fails half-way");
        }
        int status = what.equals("refuse") ? 413 : what.equals("empty") ? 205 : 200;
        OutputStream out = exchange.begin(status, what.equals("empty") ? -1 : 4);
        if (!what.equals("empty")) out.write("done".getBytes());
        out.close();
    }

    static void jdk(int port) throws Exception {
        var server = com.sun.net.httpserver.HttpServer.create(new InetSocketAddress("127.0.0.1", port), 64);
        server.setExecutor(Executors.newFixedThreadPool(32));
        server.createContext("/", it -> {
            try {
                handle(new Exchange() {
                    public String path() { return it.getRequestURI().getPath(); }
                    public String operation() { return it.getRequestHeaders().getFirst("Operation-Id"); }
                    public InputStream body() { return it.getRequestBody(); }
                    public void field(String name, String value) { it.getResponseHeaders().set(name, value); }
                    public OutputStream begin(int status, long length) throws IOException {
                        it.sendResponseHeaders(status, length);
                        return it.getResponseBody();
                    }
                });
            } catch (RuntimeException | IOException error) {
                throw error;
            } catch (Exception error) {
                throw new IOException(error);
            }
        });
        server.start();
    }

    public static void main(String[] given) throws Exception {
        int port = Integer.parseInt(given[1]);
        if (given[0].equals("jdk")) jdk(port);
        else Class.forName(given[0].equals("jetty") ? "AppOnJetty" : "AppOnTomcat")
                .getMethod("start", int.class).invoke(null, port);
    }
}
