package lab.view;

import java.io.IOException;
import java.io.PrintStream;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A copy of tables, made from their automatic events: {@code <table>.inserted}, {@code .updated}, {@code .deleted} and {@code
 * .truncated}.
 */
final class View {
  private static final Logger LOG = LoggerFactory.getLogger(View.class);

  private static final Pattern AUTOMATIC =
      Pattern.compile("(.+)\\.(inserted|updated|deleted|truncated)\\.v1", Pattern.DOTALL);

  private final StateFile file;
  private final StateFile.State state;

  View(StateFile file) throws IOException {
    this.file = file;
    state = file.read();
    file.write(state);
  }

  String worker() {
    return state.worker();
  }

  /**
   * Applies events in their order. When it returns, their effects and sequences are durable, together.
   *
   * <p>Synchronized, because KCL processes each shard in a thread of its own. If it throws, discard the view: it may be
   * ahead of its file.
   */
  synchronized void apply(List<Event> events) throws IOException {
    boolean changed = false;
    for (Event event : events) {
      if (isNew(event)) {
        handle(event);
        changed = true;
      }
    }
    if (changed) {
      file.write(state);
    }
  }

  /** Whether the event is later than all others of its key, which is then noted. If it is not, it is a repeat. */
  private boolean isNew(Event event) {
    Map<String, String> last = state.sequences().computeIfAbsent(event.source(), source -> new TreeMap<>());
    if (event.sequence().compareTo(last.getOrDefault(event.partitionKey(), "")) <= 0) {
      return false;
    }
    last.put(event.partitionKey(), event.sequence());
    return true;
  }

  /** The effect of an event that is new. */
  private void handle(Event event) {
    if (event.type().equals("forebay.gap.v1")) {
      LOG.warn("forebay.gap.v1: events may be missing, compare the view with the tables: {}", event.data());
    }
    Matcher automatic = AUTOMATIC.matcher(event.type());
    if (!automatic.matches() || event.data() == null) {
      return; // An application may publish a type with such a name, and its data are any JSON.
    }
    String table = automatic.group(1);
    Map<String, StateFile.Row> rows =
        state
            .rows()
            .computeIfAbsent(event.source(), source -> new TreeMap<>())
            .computeIfAbsent(table, name -> new TreeMap<>());
    switch (automatic.group(2)) {
      case "truncated" ->
          // It has another key than the rows, so it may come before or after events of rows. print() compares the sequences.
          state
              .truncated()
              .computeIfAbsent(event.source(), source -> new TreeMap<>())
              .merge(table, event.sequence(), (a, b) -> a.compareTo(b) > 0 ? a : b);
      case "deleted" -> rows.remove(event.subject());
      default -> rows.put(event.subject(), row(event, rows.get(event.subject())));
    }
  }

  /** The row after an event. Columns that the database did not send keep the value that they had. */
  private static StateFile.Row row(Event event, StateFile.Row former) {
    Map<String, String> columns = new LinkedHashMap<>(event.data());
    if (former != null) {
      for (String column : event.unavailable()) {
        String value = former.columns().get(column);
        if (value != null) {
          columns.put(column, value);
        }
      }
    }
    return new StateFile.Row(event.sequence(), columns);
  }

  /** Prints the rows of all tables: on each line a table, the row's key, and its columns. */
  synchronized void print(PrintStream out) throws IOException {
    for (var source : state.rows().entrySet()) {
      Map<String, String> truncated = state.truncated().getOrDefault(source.getKey(), Map.of());
      for (var table : source.getValue().entrySet()) {
        String last = truncated.getOrDefault(table.getKey(), "");
        for (var row : table.getValue().entrySet()) {
          if (row.getValue().sequence().compareTo(last) > 0) {
            String names = Event.JSON.writeValueAsString(List.of(table.getKey(), row.getKey()));
            out.println(names.substring(0, names.length() - 1) + "," + Event.object(row.getValue().columns()) + "]");
          }
        }
      }
    }
  }
}
