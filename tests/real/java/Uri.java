import java.util.List;
import java.util.Properties;

/** Prints how pgjdbc reads each URL that it is given: tab-separated, a line each. */
class Uri {
  public static void main(String[] urls) {
    for (String url : urls) {
      Properties read = org.postgresql.Driver.parseURL(url, new Properties());
      if (read == null) {
        System.err.println("no URL of pgjdbc's: " + url);
        System.exit(1);
      }
      List<String> names = List.of("PGHOST", "PGPORT", "user", "password", "PGDBNAME", "sslmode", "connectTimeout", "ApplicationName");
      System.out.println(String.join("\t", names.stream().map(name -> read.getProperty(name, "")).toList()));
    }
  }
}
