# The application on Mojolicious: `app.pl daemon -l http://127.0.0.1:PORT`; `app.py` says what its paths do.
use Mojolicious::Lite -signatures;

app->log->level('fatal');
app->max_request_size(0);
post '/*rest' => sub ($c) {
    my ($what) = $c->req->url->path =~ m{([^/]*)$};
    my $answer = sub {
        $c->res->code({ refuse => 413, empty => 205 }->{$what} || 200);
        $c->res->headers->content_type('text/plain');
        $c->res->headers->content_length(5000) if $what eq 'cut-length';
        if ($what eq 'fields') { $c->res->headers->header("X-Field-$_" => 1) for 0 .. 149 }
        return $c->render(data => $what eq 'empty' ? '' : 'done') unless $what =~ /^cut/;
        my $half = 'x' x 1000;
        $c->$_($half => sub { $c->$_($half => sub { die 'the application fails half-way' }) })
            for $what eq 'cut' ? 'write_chunk' : 'write';
    };
    return $answer->() unless $what eq 'slow';
    open my $file, '>>', $ENV{EXECUTED} or die;
    print $file $c->req->headers->header('Operation-Id') // '', "\n";
    close $file;
    Mojo::IOLoop->timer(0.2 => $answer);
    $c->render_later;
};
app->start;
