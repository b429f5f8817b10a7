package lab.view;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A copy of tables in a JSON file, made from their events alone, with the Kinesis Client Library. Needs Java 17.
 *
 * <pre>{@code
 * mvn package
 * java -jar target/view.jar --database view.json --stream lab-events [--application forebay-view]
 *     [--endpoint http://127.0.0.1:4566] [--dynamodb-endpoint http://127.0.0.1:4566] [--until-idle] [--print]
 * }</pre>
 *
 * <p>{@code --application} names the table in DynamoDB that KCL creates. {@code --print} prints the view, one row on each line.
 *
 * <p>Stop the program at any time, also with kill -9: it continues after the last batch that it checkpointed.
 */
public final class Main {
  private static final Set<String> VALUES =
      Set.of("--database", "--stream", "--application", "--endpoint", "--dynamodb-endpoint");

  private static final Set<String> FLAGS = Set.of("--until-idle", "--print");

  private Main() {}

  public static void main(String[] arguments) {
    int status = 0;
    try {
      run(options(arguments));
    } catch (Exception error) {
      error.printStackTrace();
      status = 1;
    }
    // Threads of KCL and of the clients still run.
    System.exit(status);
  }

  private static void run(Map<String, String> options) throws Exception {
    if (!options.containsKey("--database")) {
      throw new IllegalArgumentException("--database is missing");
    }
    try (StateFile file = new StateFile(Path.of(options.get("--database")))) {
      View view = new View(file);
      if (options.containsKey("--stream")) {
        consume(view, options);
      }
      if (options.containsKey("--print")) {
        // System.out has the encoding of the terminal.
        view.print(new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8));
      }
    }
  }

  private static void consume(View view, Map<String, String> options) throws Exception {
    Consumer consumer =
        new Consumer(
            view,
            options.get("--stream"),
            options.getOrDefault("--application", "forebay-view"),
            uri(options.get("--endpoint")),
            uri(options.get("--dynamodb-endpoint")));
    if (options.containsKey("--until-idle")) {
      consumer.runUntilIdle();
    } else {
      // For Ctrl-C and SIGTERM.
      Runtime.getRuntime().addShutdownHook(new Thread(consumer::stop));
      consumer.run();
    }
  }

  private static URI uri(String endpoint) {
    return endpoint == null ? null : URI.create(endpoint);
  }

  /** Options with their values; a flag has an empty one. */
  private static Map<String, String> options(String[] arguments) {
    Map<String, String> options = new HashMap<>();
    for (Iterator<String> rest = List.of(arguments).iterator(); rest.hasNext(); ) {
      String name = rest.next();
      if (FLAGS.contains(name)) {
        options.put(name, "");
      } else if (VALUES.contains(name) && rest.hasNext()) {
        options.put(name, rest.next());
      } else {
        throw new IllegalArgumentException("unknown option, or an option without its value: " + name);
      }
    }
    return options;
  }
}
