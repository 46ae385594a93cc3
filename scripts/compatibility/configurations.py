"""How each proxy is started before a port: least configuration, and the lines that mend it."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable

import measurement
from measurement import CACHE, ROOT

README = ROOT / "README.md"
MODULES = CACHE / "npm-proxies/node_modules"
# The map of README's block for nginx, comments left out.
NGINX_EXPECT = re.search(r"map \$http_expect.*?\n}", re.sub(r"#.*", "", README.read_text()), re.S).group()


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy: where its program is, how to ask its version, and how to configure it."""

    program: str
    asks: list[str]
    configure: Callable
    package: str = ""
    http2: str | None = None
    tls: bool = False

    def path(self):
        found = shutil.which(self.program, path=f"/usr/sbin:/usr/bin:/usr/local/bin:{CACHE}/venv-proxies/bin")
        return found or (self.program if pathlib.Path(self.program).exists() else None)

    def is_installed(self):
        module = self.package.removeprefix("npm:").split("@")[0]
        return self.path() is not None and (module == self.package or (MODULES / module).exists())

    def install(self):
        if self.package.startswith("pip:"):
            measurement.venv("proxies", self.package[4:])
        elif self.package.startswith("npm:"):
            measurement.modules("proxies", self.package[4:])
        else:
            measurement.debian(self.package)

    def version(self):
        done = subprocess.run([self.path(), *self.asks], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).removeprefix("NOTE: using cwd as TS_RUNROOT\n").strip().splitlines()
        return lines[0] if lines else "unknown"

    def scheme(self, protocol):
        return "https" if self.tls and protocol == "2" else "http"

    def start(self, folder, port, behind, mended, protocol):
        """Arguments for `running`: the command, its folder and the port it listens on."""
        tls = certificate(folder) if self.scheme(protocol) == "https" else None
        argv = self.configure(folder, port, behind, mended, protocol, tls)
        return [self.path(), *argv], folder, port


def certificate(folder):
    """A self-signed certificate and its key, in one file and in two."""
    key, crt, both = folder / "key.pem", folder / "crt.pem", folder / "both.pem"
    if not both.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-keyout", str(key), "-out", str(crt)],
            check=True, capture_output=True,
        )
        both.write_text(crt.read_text() + key.read_text())
    return key, crt, both


def nginx(folder, port, behind, mended, protocol, tls):
    http2 = f"ssl http2; ssl_certificate {tls[1]}; ssl_certificate_key {tls[0]}" if tls else ""
    expect = "proxy_set_header Expect $expectation;" if mended else ""
    (folder / "nginx.conf").write_text(
        f"""daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 64m; {NGINX_EXPECT if mended else ""}
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} {http2};
    location / {{
      proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; {expect}
    }}
  }}
}}
"""
    )
    return ["-p", str(folder), "-c", str(folder / "nginx.conf")]


def apache(folder, port, behind, mended, protocol, tls):
    modules = "mpm_event proxy proxy_http authz_core http2 headers socache_shmcb ssl".split()
    loads = "\n".join(f"LoadModule {one}_module /usr/lib/apache2/modules/mod_{one}.so" for one in modules)
    lines = "KeepAlive Off" if mended else ""
    if tls:
        lines += f"\nSSLEngine on\nSSLCertificateFile {tls[1]}\nSSLCertificateKeyFile {tls[0]}"
    (folder / "apache.conf").write_text(
        f"""{loads}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache-error.log
Protocols {"h2 http/1.1" if tls else "http/1.1"}
ProxyPreserveHost On
ProxyTimeout 75
ProxyPass / http://127.0.0.1:{behind}/ flushpackets=on
{lines}
"""
    )
    return ["-X", "-d", str(folder), "-f", str(folder / "apache.conf")]


def haproxy(folder, port, behind, mended, protocol, tls):
    bind = f"127.0.0.1:{port}"
    if tls:
        bind += f" ssl crt {tls[2]} alpn " + ("http/1.1" if mended else "h2,http/1.1")
    lines = "option http-no-delay\n  option httpclose\n  timeout server 75s" if mended else "timeout server 50s"
    (folder / "haproxy.cfg").write_text(
        f"""defaults
  mode http
  timeout connect 5s
  timeout client 75s
  {lines}
frontend in
  bind {bind}
  default_backend out
backend out
  server one 127.0.0.1:{behind}
"""
    )
    return ["-db", "-f", str(folder / "haproxy.cfg")]


def haproxy_that_repeats(folder, port, behind, mended, protocol, tls):
    argv = haproxy(folder, port, behind, False, protocol, tls)
    lines = "  retry-on all-retryable-errors\n  retries 3\n" + ("  http-request disable-l7-retry if METH_POST\n" if mended else "")
    with open(folder / "haproxy.cfg", "a") as file:
        file.write(lines)
    return argv


def lighttpd(folder, port, behind, mended, protocol, tls):
    lines = "server.stream-response-body = 1" if mended else ""
    (folder / "lighttpd.conf").write_text(
        f"""server.modules = ("mod_proxy")
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
{lines}
proxy.server = ("" => (("host" => "127.0.0.1", "port" => {behind})))
"""
    )
    return ["-D", "-f", str(folder / "lighttpd.conf")]


def squid(folder, port, behind, mended, protocol, tls):
    extra, peer = ("vhost", "login=PASSTHRU") if mended else ("defaultsite=127.0.0.1", "")
    (folder / "squid.conf").write_text(
        f"""http_port 127.0.0.1:{port} accel {extra}
cache_peer 127.0.0.1 parent {behind} 0 no-query originserver {peer}
http_access allow all
cache deny all
pid_filename {folder}/squid.pid
cache_log {folder}/squid-cache.log
access_log none
cache_store_log none
coredump_dir {folder}
shutdown_lifetime 0 seconds
"""
    )
    return ["-N", "-f", str(folder / "squid.conf")]


def varnish(folder, port, behind, mended, protocol, tls):
    lines = "sub vcl_recv { return (pass); }" if mended else ""
    (folder / "v.vcl").write_text(
        f"""vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{behind}"; .first_byte_timeout = 75s; }}
{lines}
"""
    )
    proto = ["-p", "feature=+http2"] if protocol == "2" else []
    return ["-F", "-n", str(folder / "varnish"), "-a", f"127.0.0.1:{port}", "-f", str(folder / "v.vcl"), *proto]


def caddy(folder, port, behind, mended, protocol, tls):
    (folder / "Caddyfile").write_text(
        f"""{{
  admin off
  auto_https off
  servers {{
    protocols h1 h2
  }}
}}
{"https" if tls else "http"}://127.0.0.1:{port} {{
  {f"tls {tls[1]} {tls[0]}" if tls else ""}
  reverse_proxy 127.0.0.1:{behind} {{
    flush_interval -1
  }}
}}
"""
    )
    return ["run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def h2o(folder, port, behind, mended, protocol, tls):
    lines = "proxy.timeout.io: 75000" if mended else ""
    ssl = f"\n  ssl:\n    key-file: {tls[0]}\n    certificate-file: {tls[1]}" if tls else ""
    (folder / "h2o.conf").write_text(
        f"""listen:
  host: 127.0.0.1
  port: {port}{ssl}
num-threads: 1
proxy.preserve-host: ON
{lines}
hosts:
  default:
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:{behind}/"
"""
    )
    return ["-c", str(folder / "h2o.conf")]


def trafficserver(folder, port, behind, mended, protocol, tls):
    places = {
        "prefix": folder, "exec_prefix": folder, "bindir": "/usr/bin", "sbindir": "/usr/sbin", "sysconfdir": folder / "etc",
        "datadir": folder / "cache", "includedir": "/usr/include", "libdir": "/usr/lib/trafficserver",
        "libexecdir": "/usr/lib/trafficserver/modules", "localstatedir": folder, "runtimedir": folder / "run",
        "logdir": folder / "log", "cachedir": folder / "cache",
    }
    for name in ("etc", "run", "log", "cache"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "runroot.yaml").write_text("".join(f"{name}: {place}\n" for name, place in places.items()))
    lines = "CONFIG proxy.config.http.transaction_no_activity_timeout_out INT 75" if mended else ""
    (folder / "etc/records.config").write_text(
        f"""CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1{":ssl" if tls else ""}
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.url_remap.pristine_host_hdr INT 1
CONFIG proxy.config.diags.logfile.filename STRING stderr
CONFIG proxy.config.ssl.server.cert.path STRING {folder}
CONFIG proxy.config.ssl.server.private_key.path STRING {folder}
{lines}
"""
    )
    (folder / "etc/remap.config").write_text(f"map / http://127.0.0.1:{behind}/\n")
    (folder / "etc/storage.config").write_text("cache 16M\n")
    (folder / "etc/ssl_multicert.config").write_text("dest_ip=* ssl_cert_name=crt.pem ssl_key_name=key.pem\n" if tls else "")
    shutil.copy("/etc/trafficserver/ip_allow.yaml", folder / "etc")
    return [f"--run-root={folder}/runroot.yaml"]


NODE = """const http = require('node:http');
const {{ createProxyServer }} = require('{modules}/http-proxy');
const proxy = createProxyServer({{ target: 'http://127.0.0.1:{behind}' }});
proxy.on('error', (error, request, response) => response.writeHead(502).end());
const handler = (request, response) => proxy.web(request, response);
const server = http.createServer(handler);
{mend}
server.listen({port}, '127.0.0.1');
"""


def http_proxy(folder, port, behind, mended, protocol, tls):
    mend = "server.on('checkExpectation', handler);" if mended else ""
    (folder / "proxy.cjs").write_text(NODE.format(modules=MODULES, behind=behind, port=port, mend=mend))
    return [str(folder / "proxy.cjs")]


def mitmproxy(folder, port, behind, mended, protocol, tls):
    lines = ["--set", "stream_large_bodies=1"] if mended else []
    return ["-q", "--set", f"confdir={folder}", "--listen-host", "127.0.0.1", "-p", str(port),
            "--mode", f"reverse:http://127.0.0.1:{behind}", *lines]


PRIOR = "--http2-prior-knowledge"
PROXIES = {
    "nginx": Proxy("nginx", ["-v"], nginx, "nginx-light", "--http2", tls=True),
    "apache": Proxy("apache2", ["-v"], apache, "apache2", "--http2", tls=True),
    "haproxy": Proxy("haproxy", ["-v"], haproxy, "haproxy", "--http2", tls=True),
    "haproxy with retry-on": Proxy("haproxy", ["-v"], haproxy_that_repeats, "haproxy"),
    "lighttpd": Proxy("lighttpd", ["-v"], lighttpd, "lighttpd"),
    "squid": Proxy("squid", ["-v"], squid, "squid"),
    "varnish": Proxy("varnishd", ["-V"], varnish, "varnish", PRIOR),
    "caddy": Proxy("caddy", ["version"], caddy, "caddy", "--http2", tls=True),
    "h2o": Proxy("h2o", ["-v"], h2o, "h2o", "--http2", tls=True),
    "trafficserver": Proxy("traffic_server", ["-V"], trafficserver, "trafficserver", "--http2", tls=True),
    "http-proxy": Proxy("node", ["-p", "'http-proxy '+require('" + str(MODULES) + "/http-proxy/package.json').version+', node '+process.version"],
                        http_proxy, "npm:http-proxy@1.18.1"),
    "mitmproxy": Proxy("mitmdump", ["--version"], mitmproxy, "pip:mitmproxy==11.0.2"),
}
