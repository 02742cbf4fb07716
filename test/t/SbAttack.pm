# SbAttack.pm: what the tests share that attack the extension with code of its users.
#
#   use SbAttack;
#   attack_server('attacks');                     # a server with the roles, and an honest pipeline
#   strike('mallory', 'SQL');                     # a session of that role; errors are fine, a hang or a crash is not
#   settle('p');                                  # the workers have done what there was to do, or the pipeline has failed
#   harmless('cast_in_x_does_not_run_as_y');      # a test: nothing ran as somebody else since the last one, nobody has become superuser
#   harmless_and_ran('...');                      # and the code did run, as somebody who may run it
#   nothing_is_broken();                          # at the end of a file
#
# All code of an attacker calls evil.act(PLACE, ALLOWED): PLACE is one of `places`, ALLOWED the roles, separated by commas, as which it may run:
# the pipeline's owner, and whoever attacks in a session of his own. It tries to get back the rights of the session around it, and to make the
# attacker superuser. What it finds is kept in sequences, which no rollback takes back.
package SbAttack;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use PostgreSQL::Test::Utils;
use SbTest;

our @EXPORT = qw(attack_server server strike wait_as settle harmless harmless_and_ran harmless_by_place forget nothing_is_broken
  evil_function superuser admin state_of hang_on_tables make_table make_pipeline rows_into query_over);

my @places = qw(code types relations operators functions);
my @roles = qw(alice bob mallory nobody);
my ($node, $super, $started);
my @trouble;
my $read = 0;

sub server { return $node }
sub superuser { return $super }

# As the superuser; dies where it fails
sub admin
{
	return $node->safe_psql('postgres', $_[0]);
}

sub attack_server
{
	my ($name, $conf) = @_;

	$node = new_node($name, conf => q{
autovacuum = off
stream_beam.housekeeping_interval = 1
stream_beam.bundle_time = '20ms'
log_statement = 'none'
} . ($conf // ''));
	$super = admin('SELECT rolname FROM pg_roles WHERE oid = 10');
	admin("CREATE ROLE $_ LOGIN; CREATE SCHEMA $_ AUTHORIZATION $_; GRANT USAGE ON SCHEMA $_ TO PUBLIC") for qw(alice bob mallory);
	admin(q{CREATE ROLE nobody LOGIN;
		GRANT EXECUTE ON FUNCTION beam.create_pipeline TO alice, bob;
		CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC});
	admin("CREATE SEQUENCE evil.ran_$_; CREATE SEQUENCE evil.other_$_; GRANT USAGE ON SEQUENCE evil.ran_$_, evil.other_$_ TO PUBLIC") for @places;
	admin(_functions());
	as_alice(q{
		CREATE TABLE alice.quiet (id int, ts timestamptz, k int);
		ALTER TABLE alice.quiet REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('honest', $$SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s
			FROM alice.quiet e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3$$, allowed_lateness => '10000 days');
		INSERT INTO alice.quiet SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3 FROM generate_series(1, 300) i;
	});
	wait_for($node, 'honest');
	$started = admin('SELECT pg_postmaster_start_time()');
	forget();
	return $node;
}

sub _functions
{
	my $roles = join(', ', map { "'$_'" } @roles);

	return qq{
CREATE FUNCTION evil.is_super() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
\$f\$ SELECT rolsuper FROM pg_roles WHERE rolname = current_user \$f\$;
-- what takes effect where the attacker has got a superuser's rights
CREATE FUNCTION evil.rise(attacker text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS \$f\$
BEGIN
	IF evil.is_super() AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = attacker AND rolsuper) THEN
		EXECUTE format('ALTER ROLE %I SUPERUSER', attacker);
	END IF;
EXCEPTION WHEN OTHERS THEN
	RAISE LOG 'evil: % could not be made superuser: %', attacker, SQLERRM;
END \$f\$;
CREATE FUNCTION evil.act(place text, allowed text) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS \$f\$
DECLARE
	me text := current_user;
	setting text;
BEGIN
	PERFORM nextval(('evil.ran_' || place)::regclass);
	IF me <> ALL (string_to_array(allowed, ',')) THEN
		PERFORM nextval(('evil.other_' || place)::regclass);
		RAISE LOG 'evil: % ran as %, in a session of %', place, me, session_user;
	END IF;
	-- who is not in a restricted operation gets back what the session around it may do
	FOREACH setting IN ARRAY ARRAY['role', 'session_authorization'] LOOP
		BEGIN
			PERFORM set_config(setting, CASE setting WHEN 'role' THEN 'none' ELSE '$super' END, true);
			IF current_user <> me THEN
				PERFORM nextval(('evil.other_' || place)::regclass);
				RAISE LOG 'evil: % became % instead of %', place, current_user, me;
				PERFORM evil.rise(split_part(allowed, ',', 1));
			END IF;
			RAISE EXCEPTION 'back';
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	PERFORM evil.rise(split_part(allowed, ',', 1));
END \$f\$;
-- the same without any subtransaction
CREATE FUNCTION evil.act_in_index(place text, allowed text) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS \$f\$
BEGIN
	PERFORM nextval(('evil.ran_' || place)::regclass);
	IF current_user <> ALL (string_to_array(allowed, ',')) THEN
		PERFORM nextval(('evil.other_' || place)::regclass);
		RAISE LOG 'evil: % ran as %, in a session of %', place, current_user, session_user;
	END IF;
END \$f\$;
-- what has happened since the last call: a row for each place, whether code ran at all, and whether it ran as somebody else; with who is
-- superuser now, which ends with this
CREATE FUNCTION evil.judge(OUT place text, OUT ran boolean, OUT other boolean, OUT risen text) RETURNS SETOF record LANGUAGE plpgsql AS \$f\$
DECLARE
	role name;
BEGIN
	risen := (SELECT string_agg(rolname, ', ' ORDER BY rolname) FROM pg_roles WHERE rolsuper AND oid <> 10);
	FOR role IN SELECT rolname FROM pg_roles WHERE rolsuper AND oid <> 10 LOOP
		EXECUTE format('ALTER ROLE %I NOSUPERUSER', role);
	END LOOP;
	FOREACH place IN ARRAY ARRAY[@{[join(', ', map { "'$_'" } @places)]}] LOOP
		EXECUTE format('SELECT r.is_called, o.is_called FROM evil.ran_%s r, evil.other_%s o', place, place) INTO ran, other;
		EXECUTE format('SELECT setval(''evil.ran_%s'', 1, false), setval(''evil.other_%s'', 1, false)', place, place);
		RETURN NEXT;
	END LOOP;
END \$f\$;
};
}

# evil_function(NAME, ARGUMENTS, RESULT TYPE, EXPRESSION, ALLOWED, PLACE, VOLATILITY): the SQL that makes a function that acts, and then returns the expression
sub evil_function
{
	my ($name, $arguments, $type, $expression, $allowed, $place, $volatility, $act) = @_;

	$allowed //= 'alice';
	$place //= 'code';
	$volatility //= 'IMMUTABLE';
	$act //= 'act';
	return "CREATE FUNCTION $name($arguments) RETURNS $type LANGUAGE plpgsql $volatility AS "
	  . "\$evil\$BEGIN PERFORM evil.$act('$place', '$allowed'); RETURN $expression; END\$evil\$;\n";
}

# A session of a role. What it says is given back, errors after output; that it comes to its end is looked at by the next test.
sub strike
{
	my ($role, $sql) = @_;
	my ($out, $err, $late) = ('', '', 0);

	eval {
		$node->psql('postgres', $sql, stdout => \$out, stderr => \$err, on_error_stop => 0, timeout => 60, timed_out => \$late,
			extra_params => [ '-U', $role ]);
		1;
	} or push @trouble, "psql: $@";
	push @trouble, "did not come to its end: $sql" if $late;
	push @trouble, $1 if $err =~ /(server closed the connection.*|terminating connection because of crash.*|.*PANIC.*)/;
	return wantarray ? ($out, $err) : $out . $err;
}

# Set-up, which has to work
sub as_alice
{
	my ($sql) = @_;

	return wait_as('alice', $sql);
}

sub wait_as
{
	my ($role, $sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ], timeout => 60);
}

# Until a pipeline has taken in what is committed, or has come to an end
sub settle
{
	for my $pipeline (@_)
	{
		my $said = strike($super, "CALL beam.wait_for('$pipeline', '10 s')");

		push @trouble, "$pipeline does not come up to date: $said" if $said =~ /57014|timeout|timed out|canceling/i;
	}
}

sub state_of
{
	return admin("SELECT state FROM beam.pipelines WHERE name = '$_[0]'");
}

# The verdict since the last: by place, whether it ran and what is wrong
sub judge
{
	my (%ran, %wrong);
	my $said;

	until (eval { $said = admin('SELECT * FROM evil.judge()'); 1 })
	{
		die $@ unless $@ =~ /Broken pipe|concurrently updated|recovery mode|starting up|shutting down|server closed|could not connect|connection to server/;
		wait_until($node, 'SELECT true');
	}
	for (split /\n/, $said)
	{
		my ($place, $ran, $other, $risen) = split /\|/, $_, -1;

		$ran{$place} = $ran eq 't';
		$wrong{$place} = join('; ', ($other eq 't' ? 'ran as somebody else' : ()), ($risen ne '' && $other eq 't' ? "superuser: $risen" : ()));
		$wrong{any} = "superuser: $risen" if $risen ne '';
	}
	# a role that is superuser, and no place that says how
	delete $wrong{any} if grep { $_ ne 'any' && $wrong{$_} =~ /superuser/ } keys %wrong;
	return (\%ran, \%wrong);
}

sub _evidence
{
	my $log = slurp_file($node->logfile, $read);

	$read += length $log;
	my %seen;
	my @lines = grep { !$seen{$_}++ } $log =~ /(evil: .*)/g;
	splice @lines, 10 if @lines > 10;
	return @lines;
}

# Nothing that has happened so far is of interest to the next test
sub forget
{
	judge();
	_evidence();
	@trouble = ();
}

sub _test
{
	my ($name, $wanted, @by_place) = @_;
	my ($ran, $wrong) = judge();
	my @evidence = _evidence();
	my $trouble = join('; ', @trouble);
	my $ok = 1;

	local $Test::Builder::Level = $Test::Builder::Level + 2;
	@trouble = ();
	for (@by_place ? @by_place : ('all'))
	{
		my @places = $_ eq 'all' ? @places : ($_);
		my $what = join('; ', grep { defined && $_ ne '' } (map { $wrong->{$_} } @places), $wrong->{any}, $trouble);
		my $shown = $name;

		$shown =~ s/%/$_/g;
		$what = 'did not run' if $what eq '' && $wanted && !grep { $ran->{$_} } @places;
		$ok &= is($what, '', $shown);
	}
	diag($_) for $ok ? () : @evidence;
	return $ok;
}

sub harmless
{
	return _test($_[0], 0);
}

sub harmless_and_ran
{
	return _test($_[0], 1);
}

# A test for each of these places, whose name stands for % in the test's
sub harmless_by_place
{
	my ($name, @by_place) = @_;

	return _test($name, 0, @by_place);
}

# What alice makes to hang on tables, and the like; and then a table, a pipeline over it, p_NAME over s_NAME, and rows
sub hang_on_tables
{
	admin('GRANT alice TO bob');
	wait_as('alice', evil_function('alice.f', 'int', 'int', '$1') . evil_function('alice.yes', 'int', 'boolean', 'true') . evil_function('alice.v', '', 'int', '1', 'alice', 'code', 'VOLATILE')
	  . evil_function('alice.in_index', 'int', 'int', '$1', 'alice', 'code', 'IMMUTABLE', 'act_in_index') . evil_function('alice.any_yes', 'anyelement', 'boolean', 'true') . q{
		CREATE DOMAIN alice.small AS int CHECK (alice.yes(VALUE));
		CREATE DOMAIN alice.big AS int8 CHECK (alice.any_yes(VALUE));
		CREATE FUNCTION alice.fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM evil.act('code', 'alice'); RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END$$;
		CREATE TABLE alice.notes (k int);
		CREATE TABLE alice.deferred (k int);
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON alice.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.fires();
	});
	wait_as('mallory', q{CREATE FUNCTION mallory.fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM evil.act('code', 'mallory,alice'); RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END$$;});
}

sub make_table
{
	my ($name) = @_;

	wait_as('alice', "CREATE TABLE alice.s_$name (id int, ts timestamptz, k int); ALTER TABLE alice.s_$name REPLICA IDENTITY FULL;");
}

sub query_over
{
	my ($name, $key) = @_;

	$key //= 'e.k';
	return "SELECT w.window_start, w.window_end, $key AS k, count(*) AS n, sum(e.id) AS s FROM alice.s_$name e, beam.tumble(e.ts, '1 minute') w GROUP BY w.window_start, w.window_end, $key";
}

sub make_pipeline
{
	my ($name, $key) = @_;

	return strike('alice', "SELECT beam.create_pipeline('alice.p_$name', \$q\$" . query_over($name, $key) . "\$q\$, watermark => '0 s', allowed_lateness => '10000 days', idle_timeout => NULL)");
}

sub rows_into
{
	my ($name, $from) = @_;

	return "INSERT INTO alice.s_$name SELECT i, '2026-01-01'::timestamptz + i * interval '3 s', i % 3 FROM generate_series($from, $from + 19) i;";
}

sub nothing_is_broken
{
	my $log = slurp_file($node->logfile);

	# on the way here an attack that has succeeded may have dropped it
	eval {
		admin(q{SET ROLE alice; INSERT INTO alice.quiet SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 4 FROM generate_series(1, 300) i;
			UPDATE alice.quiet SET k = 9 WHERE id = 7; DELETE FROM alice.quiet WHERE id = 8});
		wait_for($node, 'honest');
		1;
	} or fail("honest pipelines still run: $@");
	is(eval { differences($node, 'alice.honest') }, '', 'honest_pipelines_equal_their_batch_views_after_all_that');
	is(admin('SELECT pg_postmaster_start_time()'), $started, 'server_was_not_restarted');
	unlike($log, qr/was terminated by signal|TRAP: |PANIC: /, 'no_process_crashed');
	is(admin(q{SELECT string_agg(rolname, ', ') FROM pg_roles WHERE rolsuper AND oid <> 10}), '', 'nobody_is_superuser_who_was_not');
}

1;
