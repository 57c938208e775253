import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PGobject;

/** JDBC as an application uses it. Connects where libpq's variables say; prints what it saw, a JSON pair a line. */
public final class Workload {
    static final int CLIENTS = Integer.parseInt(System.getenv("CLIENTS"));
    static final OffsetDateTime MOMENT = OffsetDateTime.parse("2024-02-29T12:30:15.123456Z");
    /** Settings of the driver, from the command line: name=value. */
    static final Properties SETTINGS = new Properties();

    static final String TABLES = """
        CREATE TYPE mood AS ENUM ('sad', 'ok');
        CREATE TABLE item (id integer PRIMARY KEY, owner integer NOT NULL, name text, amount numeric, at timestamptz, tags text[], body jsonb, raw bytea, mood mood);
        CREATE TABLE log (owner integer, step integer, UNIQUE (owner, step));
        """;

    interface Work {
        Object run() throws Exception;
    }

    static Connection connect() throws SQLException {
        String url = String.format("jdbc:postgresql://%s:%s/%s", System.getenv("PGHOST"), System.getenv("PGPORT"), System.getenv("PGDATABASE"));
        Properties all = new Properties();
        all.putAll(SETTINGS);
        all.setProperty("user", System.getenv("PGUSER"));
        all.setProperty("password", System.getenv("PGPASSWORD"));
        all.setProperty("loginTimeout", "30");
        return DriverManager.getConnection(url, all);
    }

    static String json(Object value) {
        if (value instanceof List<?> list) {
            List<String> parts = new ArrayList<>();
            list.forEach(part -> parts.add(json(part)));
            return "[" + String.join(",", parts) + "]";
        }
        StringBuilder text = new StringBuilder("\"");
        for (char c : String.valueOf(value).toCharArray()) {
            text.append(c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return text.append('"').toString();
    }

    static void note(String label, Object value) {
        System.out.println("[" + json(label) + "," + json(value) + "]");
    }

    static Object refused(Work work) throws Exception {
        try {
            return List.of("no error", String.valueOf(work.run()));
        } catch (SQLException error) {
            return List.of(String.valueOf(error.getSQLState()), error.getMessage());
        }
    }

    static List<Object> rows(ResultSet result) throws SQLException {
        List<Object> rows = new ArrayList<>();
        int width = result.getMetaData().getColumnCount();
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            for (int column = 1; column <= width; column++) {
                Object value = result.getObject(column);
                row.add(value instanceof byte[] bytes ? java.util.HexFormat.of().formatHex(bytes) : String.valueOf(value));
            }
            rows.add(row);
        }
        result.close();
        return rows;
    }

    static List<Object> ask(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int place = 0; place < values.length; place++) {
                statement.setObject(place + 1, values[place]);
            }
            return rows(statement.executeQuery());
        }
    }

    static int change(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int place = 0; place < values.length; place++) {
                statement.setObject(place + 1, values[place]);
            }
            return statement.executeUpdate();
        }
    }

    static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    /** One client: the same statements over many short transactions, until the driver names them. */
    static List<Object> work(int me) throws Exception {
        List<Object> seen = new ArrayList<>();
        try (Connection connection = connect()) {
            connection.setAutoCommit(false);
            for (int turn = 0; turn < 14; turn++) {
                int key = me * 1000 + turn;
                PGobject body = new PGobject();
                body.setType("jsonb");
                body.setValue("{\"key\": " + key + "}");
                try (PreparedStatement insert = connection.prepareStatement("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
                    insert.setInt(1, key);
                    insert.setInt(2, me);
                    insert.setString(3, "name " + key);
                    insert.setBigDecimal(4, BigDecimal.valueOf(key).divide(BigDecimal.valueOf(8)));
                    insert.setObject(5, MOMENT);
                    Array tags = connection.createArrayOf("text", new Object[] {"a", null, "b\"\\"});
                    insert.setArray(6, tags);
                    insert.setObject(7, body);
                    insert.setBytes(8, new byte[] {0, 1, (byte) key});
                    insert.setObject(9, "ok", Types.OTHER);
                    insert.executeUpdate();
                }
                int step = turn / 2;
                Savepoint savepoint = connection.setSavepoint();
                Object failure = refused(() -> change(connection, "INSERT INTO log VALUES (?, ?)", me, step));
                seen.add(failure);
                connection.rollback(savepoint);
                int divisor = turn - 3;
                Savepoint before = connection.setSavepoint("before");
                seen.add(refused(() -> ask(connection, "SELECT 1 / ?::int", divisor)));
                connection.rollback(before);
                change(connection, "INSERT INTO log VALUES (?, ?)", me, 100 + turn);
                if (turn % 4 == 3) connection.rollback(); else connection.commit();
                seen.add(ask(connection, "SELECT * FROM item WHERE id = ?", key));
                seen.add(ask(connection, "SELECT ?::int * " + me, turn));
                connection.commit();
            }
            batches(connection, me, seen);
            connection.setAutoCommit(false);
            try (PreparedStatement large = connection.prepareStatement("SELECT n, repeat('j', 100) FROM generate_series(1, ?) n")) {
                large.setFetchSize(64);
                large.setInt(1, 2000);
                long sum = 0;
                ResultSet result = large.executeQuery();
                while (result.next()) sum += result.getInt(1);
                seen.add(sum);
            }
            connection.commit();
            seen.add(ask(connection, "SELECT length(repeat('j', ?))", 2000000));
            seen.add(ask(connection, "SELECT count(*), sum(step) FROM log WHERE owner = ?", me));
            connection.commit();
        }
        return seen;
    }

    /** Batches, generated keys, and COPY both ways. */
    static void batches(Connection connection, int me, List<Object> seen) throws Exception {
        connection.setAutoCommit(true);
        try (PreparedStatement batch = connection.prepareStatement("INSERT INTO log VALUES (?, ?)")) {
            for (int step = 200; step < 260; step++) {
                batch.setInt(1, me);
                batch.setInt(2, step);
                batch.addBatch();
            }
            seen.add(batch.executeBatch().length);
            for (int step : new int[] {300, 200, 301}) {
                batch.setInt(1, me);
                batch.setInt(2, step);
                batch.addBatch();
            }
            seen.add(refused(() -> batch.executeBatch().length));
        }
        var copy = connection.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int step = 400; step < 900; step++) lines.append(me).append('\t').append(step).append('\n');
        seen.add(copy.copyIn("COPY log FROM STDIN", new StringReader(lines.toString())));
        seen.add(refused(() -> copy.copyIn("COPY log FROM STDIN", new StringReader(me + "\t950\n" + me + "\t400\n"))));
        StringWriter out = new StringWriter();
        seen.add(copy.copyOut("COPY (SELECT step FROM log WHERE owner = " + me + " AND step < 420 ORDER BY step) TO STDOUT", out));
        seen.add(out.toString());
    }

    /** A named statement's table changes. In a transaction, autosave=conservative lets the driver prepare it anew. */
    static void changedBeneath() throws Exception {
        try (Connection first = connect(); Connection second = connect()) {
            run(first, "CREATE TABLE shape (a integer)");
            run(first, "INSERT INTO shape VALUES (1)");
            List<PreparedStatement> reads = new ArrayList<>();
            for (Connection connection : List.of(first, second)) {
                PreparedStatement read = connection.prepareStatement("SELECT * FROM shape");
                for (int time = 0; time < 7; time++) note("before", rows(read.executeQuery()));
                reads.add(read);
            }
            run(first, "ALTER TABLE shape ADD COLUMN b text DEFAULT 'b'");
            for (int place : new int[] {1, 0, 1}) note("a column more", refused(() -> rows(reads.get(place).executeQuery())));
            run(first, "ALTER TABLE shape ADD COLUMN c boolean DEFAULT true");
            for (Connection connection : List.of(first, second)) {
                connection.setAutoCommit(false);
                PreparedStatement read = reads.get(connection == first ? 0 : 1);
                note("in a transaction", refused(() -> rows(read.executeQuery())));
                note("again", refused(() -> rows(read.executeQuery())));
                connection.rollback();
                note("afterwards", refused(() -> rows(read.executeQuery())));
                connection.rollback();
            }
        }
    }

    /** Until the query with this mark is asleep: one that is merely active may be in its Parse. */
    static void await(Connection other, String action, String mark) throws SQLException {
        String sql = "SELECT count(" + action + "(pid)) FROM pg_stat_activity WHERE query LIKE ? AND wait_event = 'PgSleep'";
        while (ask(other, sql, "%" + mark + "%").toString().equals("[[0]]")) { }
    }

    static void interrupted() throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        Connection victim = connect();
        try (Connection other = connect()) {
            for (int time = 0; time < 3; time++) {
                Statement statement = victim.createStatement();
                Future<Object> sleeping = threads.submit(() -> refused(() -> statement.execute("SELECT pg_sleep(60), 'to be cancelled'")));
                await(other, "abs", "to be cancelled");
                statement.cancel();
                note("cancelled", List.of(sleeping.get(), ask(victim, "SELECT 1")));
            }
            try (Statement statement = victim.createStatement()) {
                statement.setQueryTimeout(1);
                note("timed out", refused(() -> statement.execute("SELECT pg_sleep(60)")));
            }
            Connection doomed = victim;
            Future<Object> sleeping = threads.submit(() -> refused(() -> ask(doomed, "SELECT pg_sleep(60), 'to be terminated'")));
            await(other, "pg_terminate_backend", "to be terminated");
            note("terminated", sleeping.get());
            Connection gone = connect();
            gone.setAutoCommit(false);
            change(gone, "INSERT INTO log VALUES (0, 1)");
            run(gone, "LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
            gone.abort(Runnable::run);
            // The lock is free only when the server knows that its client has gone.
            note("the lock is free", ask(other, "SELECT count(*) FROM item"));
            note("rolled back", ask(other, "SELECT * FROM log WHERE owner = 0"));
        }
        threads.shutdown();
    }

    static void listening() throws Exception {
        try (Connection listener = connect(); Connection sender = connect()) {
            run(listener, "LISTEN news");
            for (int number = 0; number < 5; number++) ask(sender, "SELECT pg_notify('news', ?)", "number " + number);
            List<Object> heard = new ArrayList<>();
            while (heard.size() < 5) {
                PGNotification[] some = listener.unwrap(PGConnection.class).getNotifications(20000);
                if (some == null || some.length == 0) break;
                for (PGNotification one : some) heard.add(List.of(one.getName(), one.getParameter()));
            }
            note("heard", heard);
            run(listener, "UNLISTEN *");
        }
    }

    static void transactions() throws Exception {
        try (Connection connection = connect()) {
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            note("read only", refused(() -> change(connection, "INSERT INTO log VALUES (0, 9)")));
            connection.rollback();
            connection.setReadOnly(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            note("isolation", ask(connection, "SHOW transaction_isolation"));
            note("serializable", change(connection, "INSERT INTO log VALUES (0, 10)"));
            connection.rollback();
            note("state", ask(connection, "SELECT count(*) FROM log WHERE owner = 0"));
            connection.rollback();
            note("tables", rows(connection.getMetaData().getColumns(null, "public", "log", null)).size());
            connection.rollback();
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            SETTINGS.setProperty(parts[0], parts[1]);
        }
        try (Connection one = connect()) {
            run(one, TABLES);
        }
        ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
        List<Callable<List<Object>>> clients = new ArrayList<>();
        for (int me = 1; me <= CLIENTS; me++) {
            int number = me;
            clients.add(() -> work(number));
        }
        int number = 0;
        for (Future<List<Object>> seen : threads.invokeAll(clients)) note("client " + ++number, seen.get());
        threads.shutdown();
        changedBeneath();
        interrupted();
        listening();
        transactions();
        System.out.flush();
        System.exit(0);
    }
}
