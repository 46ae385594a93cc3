// The application on Tomcat, as a servlet.
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

public class AppOnTomcat extends HttpServlet {
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
        var tomcat = new org.apache.catalina.startup.Tomcat();
        tomcat.setBaseDir(System.getProperty("java.io.tmpdir"));
        var connector = new org.apache.catalina.connector.Connector();
        connector.setPort(port);
        connector.setProperty("address", "127.0.0.1");
        connector.setProperty("keepAliveTimeout", "1000");
        tomcat.setConnector(connector);
        var context = tomcat.addContext("", null);
        org.apache.catalina.startup.Tomcat.addServlet(context, "app", new AppOnTomcat());
        context.addServletMappingDecoded("/*", "app");
        tomcat.start();
    }
}
