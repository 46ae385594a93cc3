"""How each server is started with the application of `programs/`, and what is measured of it."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import measurement
from measurement import CACHE, shell

PROGRAMS = pathlib.Path(__file__).parent / "programs"
PIP = [
    "gunicorn==27.0.1", "uvicorn==0.54.0", "httptools==0.9.0", "h11", "hypercorn==0.18.0", "granian==2.8.9", "waitress==3.0.2",
    "tornado==6.6.1", "aiohttp==3.14.5", "werkzeug==3.1.9", "cheroot==11.1.2", "daphne==4.2.3", "twisted==26.10.0",
]
NPM = ["express@5.3.0", "fastify@5.12.8"]
VENV = CACHE / "venv-servers/bin"
NODE = CACHE / "npm-servers"
JARS = {
    "jdk": [],
    "jetty": ["jetty9-server", "jetty9-servlet", "jetty9-http", "jetty9-io", "jetty9-util", "jetty9-security", "servlet-api"],
    "tomcat": ["tomcat10-embed-core", "tomcat10-annotations-api"],
}


@dataclasses.dataclass(frozen=True)
class Server:
    """A server: its command (of folder and port), how its version is asked, what it can."""

    argv: Callable
    version: list
    packages: tuple = ()
    idle: bool = False
    reload: str = ""
    tls: bool = False

    def install(self):
        if self.packages == "pip":
            measurement.venv("servers", *PIP)
        elif self.packages == "npm":
            measurement.modules("servers", *NPM)
        else:
            measurement.debian(*self.packages)


def python(server, *arguments, version=None, **more):
    """A server of PyPI."""
    asks = f"import importlib.metadata as m; print('{version or server}', m.version('{version or server}'))"
    return Server(lambda folder, port: [VENV / server, *[str(one).format(port=port, folder=folder) for one in arguments]],
                  [VENV / "python", "-c", asks], "pip", **more)


def called(server, version, **more):
    """A server of Python that `app.py` starts."""
    asks = "import sys; print('Python', sys.version.split()[0])" if version is None else \
        f"import importlib.metadata as m; print('{version}', m.version('{version}'))"
    return Server(lambda folder, port: [VENV / "python", PROGRAMS / "app.py", server, port],
                  [VENV / "python", "-c", asks], "pip", **more)


def node(server, **more):
    asks = "'node '+process.version" if server == "http" else f"'{server} '+require('{NODE}/node_modules/{server}/package.json').version"
    return Server(lambda folder, port: ["node", PROGRAMS / "app.mjs", NODE, server, port], ["node", "-p", asks], "npm", **more)


def java(server, packages):
    def argv(folder, port):
        classes = ":".join([str(folder), *(f"/usr/share/java/{jar}.jar" for jar in JARS[server])])
        sources = [PROGRAMS / "App.java", *([PROGRAMS / f"AppOn{server.title()}.java"] if JARS[server] else [])]
        shell(["javac", "-d", folder, "-cp", classes, *sources])
        return ["java", f"-Djava.io.tmpdir={folder}", "-cp", classes, "App", server, port]

    asks = {"jdk": ["java", "--version"], "jetty": ["dpkg-query", "-W", "jetty9"], "tomcat": ["dpkg-query", "-W", "libtomcat10-embed-java"]}
    return Server(argv, asks[server], packages)


def go(folder, port):
    shell(["go", "build", "-o", folder / "app", PROGRAMS / "app.go"], env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    return [folder / "app", port]


def puma(folder, port):
    return ["puma", "-b", f"tcp://127.0.0.1:{port}", "-t", "16:16", "-w", "2", "-e", "production", PROGRAMS / "app.ru"]


def unicorn(folder, port):
    (folder / "unicorn.rb").write_text("worker_processes 4\n")
    return ["unicorn", "-l", f"127.0.0.1:{port}", "-c", folder / "unicorn.rb", "-E", "none", PROGRAMS / "app.ru"]


def uwsgi(*listens):
    return lambda folder, port: [
        "uwsgi", "--plugin", "http,python3", *[one.format(port=port) for one in listens], "--chdir", PROGRAMS, "--master",
        "--processes", "4", "--wsgi", "app:wsgi", "--disable-logging"]


def starman(folder, port):
    return ["starman", "--listen", f"127.0.0.1:{port}", "--workers", "8", "--keepalive-timeout", "1", PROGRAMS / "app.psgi"]


def nginx(folder, port, location, tls=""):
    (folder / "nginx.conf").write_text(
        f"""daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1; user root;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 64m; keepalive_timeout 1; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}{tls}; location / {{ {location} }} }}
}}
"""
    )
    return ["nginx", "-p", folder, "-c", folder / "nginx.conf"]


def behind(folder, port, argv):
    """A shell that starts one program in the background, ends it with the other, and becomes that."""
    first, second = argv
    quoted = "setpriv --pdeathsig TERM " + " ".join(f"'{one}'" for one in first) + " & exec " + " ".join(f"'{one}'" for one in second)
    return ["sh", "-c", quoted]


def nginx_before_node(folder, port, tls=""):
    inner = measurement.free_port()
    second = nginx(folder, port, f"proxy_pass http://127.0.0.1:{inner}; proxy_http_version 1.1; proxy_set_header Connection '';", tls)
    return behind(folder, port, ([shutil.which("node"), PROGRAMS / "app.mjs", NODE, "http", inner], second))


def nginx_over_tls(folder, port):
    return nginx_before_node(folder, port, f" ssl; ssl_certificate {folder}/crt.pem; ssl_certificate_key {folder}/key.pem")


def caddy_before_node(folder, port):
    inner = measurement.free_port()
    (folder / "Caddyfile").write_text(
        f"{{\n  admin off\n  auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n  reverse_proxy 127.0.0.1:{inner}\n}}\n")
    second = ["caddy", "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    return behind(folder, port, ([shutil.which("node"), PROGRAMS / "app.mjs", NODE, "http", inner], second))


def php_fpm(folder, port):
    (folder / "fpm.conf").write_text(
        f"""[global]
error_log = /dev/stderr
daemonize = no
[www]
user = root
listen = {folder}/fpm.sock
pm = static
pm.max_children = 8
clear_env = no
""")
    location = f"include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME {PROGRAMS}/app.php; fastcgi_pass unix:{folder}/fpm.sock;"
    return behind(folder, port, (["php-fpm8.2", "-R", "-y", folder / "fpm.conf"], nginx(folder, port, location)))


def php(folder, port):
    return ["php", "-S", f"127.0.0.1:{port}", PROGRAMS / "app.php"]


def apache_cgi(folder, port):
    modules = "mpm_event authz_core cgid alias env".split()
    loads = "\n".join(f"LoadModule {one}_module /usr/lib/apache2/modules/mod_{one}.so" for one in modules)
    folder.chmod(0o777)
    (folder / "apache.conf").write_text(
        f"""{loads}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ScriptSock {folder}/cgid.sock
ErrorLog {folder}/apache-error.log
KeepAliveTimeout 1
PassEnv EXECUTED
ScriptAlias / {PROGRAMS}/app.cgi/
<Directory {PROGRAMS}>
  Require all granted
</Directory>
""")
    return ["apache2", "-DFOREGROUND", "-d", folder, "-f", folder / "apache.conf"]


def lighttpd_cgi(folder, port):
    (folder / "lighttpd.conf").write_text(
        f"""server.modules = ("mod_setenv", "mod_cgi", "mod_alias")
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
server.max-keep-alive-idle = 1
server.stream-response-body = 1
alias.url = ("/" => "{PROGRAMS}/app.cgi/")
cgi.assign = ("app.cgi" => "")
setenv.add-environment = ("EXECUTED" => "{folder}/executed")
""")
    return ["lighttpd", "-D", "-f", folder / "lighttpd.conf"]


GUNICORN = ["--chdir", PROGRAMS, "-b", "127.0.0.1:{port}", "--log-level", "critical"]
UVICORN = ["--app-dir", PROGRAMS, "--port", "{port}", "--timeout-keep-alive", "1", "--log-level", "critical"]
GRANIAN = ["--host", "127.0.0.1", "--port", "{port}", "--working-dir", PROGRAMS, "--no-log", "--workers", "2"]
TLS = ["--certfile", "{folder}/crt.pem", "--keyfile", "{folder}/key.pem"]
SERVERS = {
    "gunicorn sync": python("gunicorn", *GUNICORN, "-w", "4", "app:wsgi", reload="HUP"),
    "gunicorn gthread": python("gunicorn", *GUNICORN, "-w", "2", "-k", "gthread", "--threads", "8", "--keep-alive", "1", "app:wsgi",
                               idle=True, reload="HUP"),
    "uvicorn h11": python("uvicorn", *UVICORN, "--http", "h11", "--workers", "2", "app:asgi", idle=True, reload="HUP"),
    "uvicorn httptools": python("uvicorn", *UVICORN, "--http", "httptools", "--workers", "2", "app:asgi", idle=True, reload="HUP"),
    "hypercorn": python("hypercorn", "-b", "127.0.0.1:{port}", "-w", "2", "--keep-alive", "1", f"{PROGRAMS}/app.py:asgi", idle=True),
    "granian asgi": python("granian", *GRANIAN, "--interface", "asgi", "app:asgi", reload="HUP"),
    "granian wsgi": python("granian", *GRANIAN, "--interface", "wsgi", "--blocking-threads", "8", "app:wsgi", reload="HUP"),
    "daphne": python("daphne", "-b", "127.0.0.1", "-p", "{port}", "-v", "0", "app:asgi"),
    "waitress": called("waitress", "waitress", idle=True),
    "werkzeug": called("werkzeug", "werkzeug"),
    "cheroot": called("cheroot", "cheroot", idle=True),
    "twisted": called("twisted", "twisted", idle=True),
    "tornado": called("tornado", "tornado", idle=True),
    "aiohttp": called("aiohttp", "aiohttp", idle=True),
    "wsgiref": called("wsgiref", None),
    "http.server": called("http.server", None),
    "uwsgi --http": Server(uwsgi("--http", "127.0.0.1:{port}", "--http-keepalive"), ["dpkg-query", "-W", "uwsgi"],
                           ("uwsgi", "uwsgi-plugin-python3"), reload="HUP"),
    "uwsgi --http-socket": Server(uwsgi("--http-socket", "127.0.0.1:{port}"), ["dpkg-query", "-W", "uwsgi"],
                                  ("uwsgi", "uwsgi-plugin-python3"), reload="HUP"),
    "node http": node("http", idle=True),
    "express": node("express", idle=True),
    "fastify": node("fastify", idle=True),
    "puma": Server(puma, ["puma", "--version"], ("ruby", "puma"), reload="USR1"),
    "unicorn": Server(unicorn, ["unicorn", "--version"], ("ruby", "unicorn"), reload="HUP"),
    "webrick": Server(lambda folder, port: ["ruby", PROGRAMS / "app.rb", port],
                      ["ruby", "-r", "webrick", "-e", "puts 'webrick ' + WEBrick::VERSION"], ("ruby", "ruby-webrick"), idle=True),
    "php -S": Server(php, ["php", "-v"], ("php-cli",)),
    "php-fpm behind nginx": Server(php_fpm, ["php-fpm8.2", "-v"], ("php-fpm", "nginx-light"), idle=True, reload="HUP"),
    "go net/http": Server(go, ["go", "version"], ("golang-go",), idle=True),
    "jdk httpserver": java("jdk", ("default-jdk-headless",)),
    "jetty": java("jetty", ("default-jdk-headless", "jetty9", "libjetty9-java")),
    "tomcat": java("tomcat", ("default-jdk-headless", "libtomcat10-embed-java", "libtomcat10-java")),
    "starman": Server(starman, ["dpkg-query", "-W", "starman"], ("starman",), idle=True, reload="HUP"),
    "mojolicious": Server(lambda folder, port: ["perl", PROGRAMS / "app.pl", "daemon", "-l", f"http://127.0.0.1:{port}", "-k", "1"],
                          ["dpkg-query", "-W", "libmojolicious-perl"], ("libmojolicious-perl",), idle=True),
    "apache cgi": Server(apache_cgi, ["apache2", "-v"], ("apache2",), idle=True, reload="USR1"),
    "lighttpd cgi": Server(lighttpd_cgi, ["lighttpd", "-v"], ("lighttpd",), idle=True),
    "nginx before node": Server(nginx_before_node, ["nginx", "-v"], ("nginx-light",), idle=True, reload="HUP"),
    "caddy before node": Server(caddy_before_node, ["caddy", "version"], ("caddy",)),
    # The same over TLS, which has an end of its own.
    "gunicorn sync over TLS": python("gunicorn", *GUNICORN, "-w", "4", *TLS, "app:wsgi", tls=True),
    "gunicorn gthread over TLS": python("gunicorn", *GUNICORN, "-w", "2", "-k", "gthread", "--threads", "8", "--keep-alive", "1", *TLS,
                                        "app:wsgi", idle=True, tls=True),
    "uvicorn over TLS": python("uvicorn", *UVICORN, "--ssl-certfile", "{folder}/crt.pem", "--ssl-keyfile", "{folder}/key.pem", "app:asgi",
                               idle=True, tls=True),
    "hypercorn over TLS": python("hypercorn", "-b", "127.0.0.1:{port}", "-w", "2", "--keep-alive", "1", *TLS, f"{PROGRAMS}/app.py:asgi",
                                 idle=True, tls=True),
    "granian over TLS": python("granian", *GRANIAN, "--interface", "asgi", "--ssl-certificate", "{folder}/crt.pem", "--ssl-keyfile",
                               "{folder}/key.pem", "app:asgi", tls=True),
    "daphne over TLS": python("daphne", "-e", "ssl:{port}:privateKey={folder}/key.pem:certKey={folder}/crt.pem:interface=127.0.0.1",
                              "-v", "0", "app:asgi", tls=True),
    "node over TLS": dataclasses.replace(node("http", idle=True), tls=True,
                                         argv=lambda folder, port: ["node", PROGRAMS / "app.mjs", NODE, "https", port]),
    "nginx over TLS before node": Server(nginx_over_tls, ["nginx", "-v"], ("nginx-light",), idle=True, tls=True),
    # What becomes of requests when a server has run out of time or of places.
    "gunicorn --timeout 1": python("gunicorn", *GUNICORN, "-w", "4", "--timeout", "1", "app:wsgi"),
    "gunicorn --backlog 1": python("gunicorn", *GUNICORN, "-w", "1", "--backlog", "1", "app:wsgi"),
    "uvicorn --limit-concurrency 4": python("uvicorn", *UVICORN, "--limit-concurrency", "4", "app:asgi"),
}
