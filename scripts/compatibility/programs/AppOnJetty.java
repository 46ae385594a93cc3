// The application on Jetty, as a servlet.
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

public class AppOnJetty extends HttpServlet {
    @Override
    protected void doPost(HttpServletRequest request, HttpServletResponse response) throws IOException {
        try {
            App.handle(new App.Exchange() {
                public String path() { return request.getRequestURI(); }
                public String operation() { return request.getHeader("Operation-Id"); }
                public InputStream body() throws IOException { return request.getInputStream(); }
                public void field(String name, String value) { response.setHeader(name, value); }
                public OutputStream begin(int status, long length) throws IOException {
                    response.setStatus(status);
                    if (length > 0) response.setContentLengthLong(length);
                    return response.getOutputStream();
                }
            });
        } catch (RuntimeException | IOException error) {
            throw error;
        } catch (Exception error) {
            throw new IOException(error);
        }
    }

    public static void start(int port) throws Exception {
        var server = new org.eclipse.jetty.server.Server();
        var connector = new org.eclipse.jetty.server.ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(port);
        connector.setIdleTimeout(Long.getLong("idle", 1000));
        server.addConnector(connector);
        var handler = new org.eclipse.jetty.servlet.ServletHandler();
        handler.addServletWithMapping(AppOnJetty.class, "/*");
        server.setHandler(handler);
        server.start();
    }
}
