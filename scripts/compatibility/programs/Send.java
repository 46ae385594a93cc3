// HTTP clients of the JDK: `Send CLIENT MODE URL`; `clients.py` says what the modes are.
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.cert.X509Certificate;
import java.util.LinkedHashMap;
import java.util.Map;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

public class Send {
    static final byte[] BODY = "{\"sku\": \"A-1\"}".getBytes();

    static SSLContext trusting() throws Exception {
        var context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {new X509TrustManager() {
            public void checkClientTrusted(X509Certificate[] chain, String type) {}
            public void checkServerTrusted(X509Certificate[] chain, String type) {}
            public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
        }}, null);
        return context;
    }

    static int connection(String method, String url, Map<String, String> fields) throws Exception {
        var one = (HttpURLConnection) URI.create(url).toURL().openConnection();
        one.setRequestMethod(method);
        one.setReadTimeout(25000);
        fields.forEach(one::setRequestProperty);
        if (method.equals("POST")) {
            one.setDoOutput(true);
            one.getOutputStream().write(BODY);
        }
        int status = one.getResponseCode();
        var body = status < 400 ? one.getInputStream() : one.getErrorStream();
        if (body != null) body.readAllBytes();
        return status;
    }

    static int client(HttpClient client, String method, String url, Map<String, String> fields) throws Exception {
        var body = method.equals("POST") ? HttpRequest.BodyPublishers.ofByteArray(BODY) : HttpRequest.BodyPublishers.noBody();
        var request = HttpRequest.newBuilder(URI.create(url)).method(method, body);
        fields.forEach(request::header);
        return client.send(request.build(), HttpResponse.BodyHandlers.ofString()).statusCode();
    }

    public static void main(String[] given) throws Exception {
        String mode = given[1], url = given[2], method = mode.equals("follow") ? "GET" : "POST";
        String warm = URI.create(url).resolve("/warm").toString();
        var fields = new LinkedHashMap<String, String>(Map.of("Content-Type", "application/json"));
        if (mode.equals("expect")) fields.put("Expect", "202-accepted");
        if (mode.equals("redirect") || method.equals("GET")) {
            fields.putAll(Map.of("Authorization", "Basic eDp5", "Prefer", "wait=1", "Accept", "application/json",
                    "X-Own", "1", "Idempotency-Key", "k"));
        }
        try {
            int status;
            HttpsURLConnection.setDefaultSSLSocketFactory(trusting().getSocketFactory());
            HttpsURLConnection.setDefaultHostnameVerifier((name, session) -> true);
            if (given[0].equals("HttpURLConnection")) {
                if (mode.equals("reused")) connection("GET", warm, Map.of());
                status = connection(method, url, fields);
            } else {
                var client = HttpClient.newBuilder().sslContext(trusting()).followRedirects(HttpClient.Redirect.NORMAL).build();
                if (mode.equals("reused")) client(client, "GET", warm, Map.of());
                status = client(client, method, url, fields);
            }
            System.out.println("{\"status\": " + status + "}");
        } catch (Exception error) {
            String message = String.valueOf(error.getMessage()).replaceAll("[^ -~]|[\"\\\\]", " ");
            System.out.println("{\"raised\": \"" + error.getClass().getSimpleName() + "\", \"message\": \"" + message + "\"}");
        }
    }
}
