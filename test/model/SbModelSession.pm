# SbModelSession.pm: a psql that is kept open, so that a model test can hold several transactions open at once.
#
#   my $session = SbModelSession->new('writer 1');
#   my $text = $session->run('SELECT 1');            # dies with the server's message where a statement fails
#   my ($text, $error) = $session->try('SELECT 1');  # returns it instead
package SbModelSession;

use strict;
use warnings;
use IPC::Open2;

my $marks = 0;

sub new
{
	my ($class, $name) = @_;
	my $self = bless { name => $name }, $class;

	$self->{pid} = open2($self->{out}, $self->{in}, 'exec psql -X -q -A -t -F "|" 2>&1');
	$self->run(q{SET client_min_messages = error; SET statement_timeout = '120s'});
	return $self;
}

sub try
{
	my ($self, $sql) = @_;
	my $mark = 'mark-' . ++$marks;
	my @lines;
	my @errors;

	# a COPY ends with its data
	$sql .= ";\n" unless $sql =~ /;\s*$|\n\\\.\n$/;
	print { $self->{in} } "$sql\n\\echo $mark\n";
	$self->{in}->flush;
	for (;;)
	{
		my $line = readline($self->{out});

		die "$self->{name}: the server closed the connection: @lines @errors\n" unless defined $line;
		chomp $line;
		last if $line eq $mark;
		if (@errors || $line =~ /^(?:ERROR|FATAL|PANIC):/) { push @errors, $line }
		else { push @lines, $line }
	}
	return (join("\n", @lines), @errors ? join("\n", @errors) : undef);
}

sub run
{
	my ($self, $sql) = @_;
	my ($text, $error) = $self->try($sql);

	die "$self->{name}: $error\nin: " . substr($sql, 0, 1000) . "\n" if defined $error;
	return $text;
}

sub close
{
	my ($self) = @_;

	close($self->{in});
	close($self->{out});
	waitpid($self->{pid}, 0);
}

1;
