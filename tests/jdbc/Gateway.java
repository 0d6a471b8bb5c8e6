// What Java apps do with pgjdbc, several at once. Arguments: URL, user, password.
// Prints a line per scenario; ends with status 1 at the first that fails.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public class Gateway {
  static final int CLIENTS = 6;
  static final int ROUNDS = 20;
  static final String CANCELED = "57014";

  interface Scenario {
    void run(Connection connection, int client) throws Exception;
  }

  static String url;
  static String user;
  static String password;

  public static void main(String[] arguments) throws Exception {
    url = arguments[0];
    user = arguments[1];
    password = arguments[2];
    for (String mode : List.of("extended", "extendedForPrepared", "extendedCacheEverything", "simple")) {
      for (String threshold : List.of("1", "5", "0")) {
        Properties options = options(mode, threshold);
        String how = " (" + mode + ", prepareThreshold=" + threshold + ")";
        all("prepared statements" + how, options, Gateway::prepared);
        all("batches" + how, options, Gateway::batches);
        all("cursors by fetchSize" + how, options, Gateway::cursors);
        all("transactions" + how, options, Gateway::transactions);
      }
    }
    Properties options = options("extended", "1");
    all("setQueryTimeout", options, Gateway::timeouts);
    all("cancel", options, Gateway::cancels);
    all("CopyManager", options, Gateway::copies);
    all("metadata, arrays and types", options, Gateway::types);
    all("settings", options, Gateway::settings);
    all("large objects", options, Gateway::largeObjects);
    all("notifications", options, Gateway::notifications);
    all("a statement whose table changes", options, Gateway::changedTable);
    System.out.println("all done");
    System.exit(0);
  }

  static Properties options(String mode, String threshold) {
    Properties options = new Properties();
    options.setProperty("user", user);
    options.setProperty("password", password);
    options.setProperty("preferQueryMode", mode);
    options.setProperty("prepareThreshold", threshold);
    options.setProperty("ApplicationName", "jdbc test");
    return options;
  }

  static void all(String what, Properties options, Scenario scenario) throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);
    List<Future<?>> runs = new ArrayList<>();
    for (int n = 0; n < CLIENTS; n++) {
      int client = n;
      runs.add(
          threads.submit(
              () -> {
                try (Connection connection = DriverManager.getConnection(url, options)) {
                  scenario.run(connection, client);
                }
                return null;
              }));
    }
    try {
      for (Future<?> run : runs) run.get();
    } catch (Exception error) {
      System.out.println("FAILED " + what);
      error.printStackTrace(System.out);
      System.exit(1);
    }
    threads.shutdown();
    System.out.println("ok " + what);
  }

  static void check(boolean right, String what) {
    if (!right) throw new AssertionError(what);
  }

  static void fails(String state, AutoCloseable work) throws Exception {
    try {
      work.close();
    } catch (SQLException error) {
      check(state.equals(error.getSQLState()), error.getSQLState() + " " + error.getMessage());
      return;
    }
    throw new AssertionError("it did not fail with " + state);
  }

  static Object value(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(sql)) {
      rows.next();
      return rows.getObject(1);
    }
  }

  static void prepared(Connection connection, int client) throws Exception {
    try (PreparedStatement sum = connection.prepareStatement("SELECT ?::int + ?, ?::text");
        PreparedStatement broken = connection.prepareStatement("SELECT 1 / ?")) {
      for (int n = 0; n < ROUNDS; n++) {
        sum.setInt(1, client * 1000);
        sum.setInt(2, n);
        sum.setString(3, "client " + client);
        try (ResultSet rows = sum.executeQuery()) {
          check(rows.next() && rows.getInt(1) == client * 1000 + n, "sum");
          check(rows.getString(2).equals("client " + client), "text");
        }
        broken.setInt(1, 0);
        fails("22012", () -> broken.executeQuery());
      }
    }
  }

  static void batches(Connection connection, int client) throws Exception {
    String table = "jdbc_batch_" + client;
    try (Statement statement = connection.createStatement()) {
      statement.execute("DROP TABLE IF EXISTS " + table);
      statement.execute("CREATE TABLE " + table + " (id int PRIMARY KEY, v text)");
    }
    String insert = "INSERT INTO " + table + " VALUES (?, ?)";
    try (PreparedStatement batch = connection.prepareStatement(insert)) {
      for (int n = 0; n < 500; n++) {
        batch.setInt(1, n);
        batch.setString(2, "v" + n);
        batch.addBatch();
      }
      check(batch.executeBatch().length == 500, "counts");
      for (int n = 495; n < 505; n++) {
        batch.setInt(1, n < 500 ? n + 1000 : n - 10);
        batch.setString(2, "again");
        batch.addBatch();
      }
      connection.setAutoCommit(false);
      try {
        batch.executeBatch();
        throw new AssertionError("a duplicate was taken");
      } catch (BatchUpdateException error) {
        check("23505".equals(error.getSQLState()), error.getSQLState());
      }
      connection.rollback();
      connection.setAutoCommit(true);
    }
    check(value(connection, "SELECT count(*)::int FROM " + table).equals(500), "rolled back");
    try (Statement statement = connection.createStatement()) {
      for (int n = 0; n < 5; n++) statement.addBatch("UPDATE " + table + " SET v = 'u' WHERE id = " + n);
      statement.addBatch("DELETE FROM " + table);
      int[] counts = statement.executeBatch();
      check(counts[5] == 500, "deleted");
      statement.execute("DROP TABLE " + table);
    }
    try (Statement statement = connection.createStatement()) {
      check(statement.execute("SELECT 1; SELECT 2"), "two results");
      check(statement.getMoreResults(), "the second");
    }
  }

  static void cursors(Connection connection, int client) throws Exception {
    connection.setAutoCommit(false);
    String sql = "SELECT n, ? FROM generate_series(1, 1000) n";
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      statement.setFetchSize(37);
      statement.setInt(1, client);
      try (ResultSet rows = statement.executeQuery()) {
        int count = 0;
        while (rows.next()) {
          count++;
          check(rows.getInt(1) == count && rows.getInt(2) == client, "row");
          if (count % 300 == 0) check(value(connection, "SELECT 'between'").equals("between"), "x");
        }
        check(count == 1000, "count");
      }
    }
    connection.commit();
    connection.setAutoCommit(true);
  }

  static void transactions(Connection connection, int client) throws Exception {
    for (int level :
        new int[] {
          Connection.TRANSACTION_SERIALIZABLE,
          Connection.TRANSACTION_REPEATABLE_READ,
          Connection.TRANSACTION_READ_COMMITTED
        }) {
      connection.setTransactionIsolation(level);
      connection.setAutoCommit(false);
      check(connection.getTransactionIsolation() == level, "isolation");
      Savepoint savepoint = connection.setSavepoint();
      fails("22012", () -> value(connection, "SELECT 1/0"));
      fails("25P02", () -> value(connection, "SELECT 1"));
      connection.rollback(savepoint);
      check(value(connection, "SELECT 7").equals(7), "goes on");
      connection.commit();
      connection.setAutoCommit(true);
    }
    connection.setReadOnly(true);
    connection.setAutoCommit(false);
    fails("25006", () -> value(connection, "CREATE TABLE not_made AS SELECT 1"));
    connection.rollback();
    connection.setAutoCommit(true);
    connection.setReadOnly(false);
    check(value(connection, "SHOW transaction_read_only").equals("off"), "read only");
    check(connection.isValid(5), "valid");
  }

  static void timeouts(Connection connection, int client) throws Exception {
    for (int n = 0; n < 2; n++) {
      try (PreparedStatement sleep = connection.prepareStatement("SELECT pg_sleep(30)")) {
        sleep.setQueryTimeout(1);
        fails(CANCELED, () -> sleep.executeQuery());
      }
      check(value(connection, "SELECT " + n).equals(n), "goes on");
    }
  }

  static void cancels(Connection connection, int client) throws Exception {
    for (int n = 0; n < 3; n++) {
      try (Statement sleep = connection.createStatement()) {
        Thread other =
            new Thread(
                () -> {
                  try {
                    while (true) {
                      Thread.sleep(200);
                      sleep.cancel();
                    }
                  } catch (InterruptedException | SQLException over) {
                    // the statement has ended
                  }
                });
        other.start();
        fails(CANCELED, () -> sleep.executeQuery("SELECT pg_sleep(30)"));
        other.interrupt();
        other.join();
      }
      check(value(connection, "SELECT " + n).equals(n), "goes on");
    }
  }

  static void copies(Connection connection, int client) throws Exception {
    String table = "jdbc_copy_" + client;
    try (Statement statement = connection.createStatement()) {
      statement.execute("DROP TABLE IF EXISTS " + table);
      statement.execute("CREATE TABLE " + table + " (id int, v text)");
    }
    CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
    StringBuilder lines = new StringBuilder();
    for (int n = 0; n < 5000; n++) lines.append(n).append('\t').append("client ").append(client).append('\n');
    String text = lines.toString();
    check(copy.copyIn("COPY " + table + " FROM STDIN", new StringReader(text)) == 5000, "in");
    fails("22P02", () -> copy.copyIn("COPY " + table + " FROM STDIN", new StringReader("x\ty\n")));
    StringWriter out = new StringWriter();
    copy.copyOut("COPY (SELECT * FROM " + table + " ORDER BY id) TO STDOUT", out);
    check(out.toString().equals(text), "out");
    var half = copy.copyIn("COPY " + table + " FROM STDIN");
    half.writeToCopy("1\thalf\n".getBytes(), 0, 7);
    half.cancelCopy();
    check(value(connection, "SELECT count(*)::int FROM " + table).equals(5000), "count");
    try (Statement statement = connection.createStatement()) {
      statement.execute("DROP TABLE " + table);
    }
  }

  static void types(Connection connection, int client) throws Exception {
    try (ResultSet tables = connection.getMetaData().getTables(null, "pg_catalog", "pg_cl%", null)) {
      check(tables.next(), "tables");
    }
    String sql = "SELECT ?::int[], ?::uuid, ?::timestamptz, ?::numeric, ?::jsonb, ?::bytea";
    for (int n = 0; n < ROUNDS; n++) {
      try (PreparedStatement statement = connection.prepareStatement(sql)) {
        Array array = connection.createArrayOf("int4", new Object[] {client, n, null});
        statement.setArray(1, array);
        statement.setObject(2, new java.util.UUID(client, n));
        statement.setObject(3, java.time.OffsetDateTime.parse("2025-02-03T04:05:06Z"));
        statement.setBigDecimal(4, new java.math.BigDecimal("1.20"));
        statement.setString(5, "{\"n\": " + n + "}");
        statement.setBytes(6, new byte[] {0, (byte) client, (byte) n});
        try (ResultSet rows = statement.executeQuery()) {
          rows.next();
          Object[] back = (Object[]) rows.getArray(1).getArray();
          check(back[0].equals(client) && back[1].equals(n) && back[2] == null, "array");
          check(rows.getObject(2).equals(new java.util.UUID(client, n)), "uuid");
          check(rows.getString(5).equals("{\"n\": " + n + "}"), "json");
          check(rows.getBytes(6)[2] == n, "bytes");
        }
      }
    }
  }

  static void settings(Connection connection, int client) throws Exception {
    connection.setSchema("pg_catalog");
    try (Statement statement = connection.createStatement()) {
      statement.execute("SET work_mem = '" + (client + 5) + "MB'");
    }
    for (int n = 0; n < ROUNDS; n++) {
      check(connection.getSchema().equals("pg_catalog"), "schema");
      check(value(connection, "SHOW work_mem").equals((client + 5) + "MB"), "work_mem");
      check(value(connection, "SHOW application_name").equals("jdbc test"), "name");
    }
  }

  static void largeObjects(Connection connection, int client) throws Exception {
    connection.setAutoCommit(false);
    LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
    long oid = manager.createLO();
    byte[] data = new byte[100_000];
    for (int n = 0; n < data.length; n++) data[n] = (byte) (n * client);
    try (LargeObject object = manager.open(oid, LargeObjectManager.WRITE)) {
      object.write(data);
    }
    connection.commit();
    try (LargeObject object = manager.open(oid, LargeObjectManager.READ)) {
      object.seek(5);
      byte[] back = object.read(10);
      for (int n = 0; n < 10; n++) check(back[n] == data[n + 5], "bytes");
    }
    manager.delete(oid);
    connection.commit();
  }

  static void notifications(Connection connection, int client) throws Exception {
    try (Statement statement = connection.createStatement()) {
      statement.execute("LISTEN jdbc_" + client);
      statement.execute("NOTIFY jdbc_" + client + ", 'for " + client + "'");
      PGConnection own = connection.unwrap(PGConnection.class);
      PGNotification[] heard = own.getNotifications(10_000);
      check(heard != null && heard.length == 1, "one");
      check(heard[0].getParameter().equals("for " + client), heard[0].getParameter());
      statement.execute("UNLISTEN *");
    }
  }

  static void changedTable(Connection connection, int client) throws Exception {
    String table = "jdbc_shape_" + client;
    try (Statement statement = connection.createStatement()) {
      statement.execute("DROP TABLE IF EXISTS " + table);
      statement.execute("CREATE TABLE " + table + " AS SELECT 1 AS a");
      try (PreparedStatement all = connection.prepareStatement("SELECT * FROM " + table)) {
        for (int n = 0; n < 3; n++) all.executeQuery().close();
        statement.execute("ALTER TABLE " + table + " ADD b int DEFAULT 2");
        try (ResultSet rows = all.executeQuery()) {
          check(rows.next() && rows.getMetaData().getColumnCount() == 2, "columns");
        }
      }
      statement.execute("DROP TABLE " + table);
    }
  }
}
