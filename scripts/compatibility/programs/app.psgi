# The application for PSGI; `app.py` says what its paths do.
use strict;
use warnings;
use Time::HiRes qw(sleep);

sub {
    my $env = shift;
    my ($what) = $env->{PATH_INFO} =~ m{([^/]*)$};
    if ($what ne 'early' && $what ne 'refuse') {
        my $left = $env->{CONTENT_LENGTH} || 0;
        while ($left > 0) {
            my $got = $env->{'psgi.input'}->read(my $octets, $left) or last;
            $left -= $got;
        }
    }
    if ($what eq 'slow') {
        open my $file, '>>', $ENV{EXECUTED} or die;
        print $file ($env->{HTTP_OPERATION_ID} // ''), "\n";
        close $file;
        sleep 0.2;
    }
    my @fields = ('Content-Type' => 'text/plain');
    push @fields, 'Content-Length' => 5000 if $what eq 'cut-length';
    push @fields, map { ("X-Field-$_" => 1) } 0 .. 149 if $what eq 'fields';
    my $status = { refuse => 413, empty => 205 }->{$what} || 200;
    return [$status, \@fields, [$what eq 'empty' ? '' : 'done']] unless $what =~ /^cut/;
    return sub {
        my $writer = shift->([$status, \@fields]);
        $writer->write('x' x 1000);
        sleep 0.1;
        $writer->write('x' x 1000);
        die 'the application fails half-way';
    };
};
