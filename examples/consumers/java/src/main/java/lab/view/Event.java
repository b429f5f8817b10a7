package lab.view;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * An event: the attributes that a view needs. Ignore all others, and types that you do not know.
 *
 * @param unavailable columns whose value the database did not send
 * @param data JSON text of each column, as the event has it; null if the data are no object. Numbers keep all their digits:
 *     9007199254740993 and 1.50 would not survive a double. To calculate, use {@code new BigDecimal(text)}.
 */
record Event(
    String type,
    String source,
    String subject,
    String partitionKey,
    String sequence,
    List<String> unavailable,
    Map<String, String> data) {

  /** A row may hold longer numbers, and documents nested more deeply, than Jackson accepts by default. */
  static final ObjectMapper JSON =
      new ObjectMapper(
          JsonFactory.builder()
              .streamReadConstraints(
                  StreamReadConstraints.builder()
                      .maxNumberLength(Integer.MAX_VALUE)
                      .maxStringLength(Integer.MAX_VALUE)
                      .maxNameLength(Integer.MAX_VALUE)
                      .maxNestingDepth(Integer.MAX_VALUE)
                      .build())
              .build());

  /** A list of SQL identifiers, which are in quotes where they need them. */
  private static final Pattern IDENTIFIER = Pattern.compile("\"((?:[^\"]|\"\")*+)\"|([^\",]+)");

  /** The events of a record. A record may hold several, one on each line. */
  static List<Event> of(ByteBuffer record) throws IOException {
    List<Event> events = new ArrayList<>();
    for (String line : StandardCharsets.UTF_8.decode(record.duplicate()).toString().split("\n")) {
      if (!line.isEmpty()) {
        events.add(parse(line));
      }
    }
    return events;
  }

  private static Event parse(String line) throws IOException {
    Map<String, String> members = members(line);
    if (members == null) {
      throw new IOException("a line of the record is not a JSON object");
    }
    return new Event(
        string(members, "type"),
        string(members, "source"),
        string(members, "subject"),
        string(members, "partitionkey"),
        string(members, "sequence"),
        identifiers(string(members, "unavailable")),
        members(members.getOrDefault("data", "null")));
  }

  private static String string(Map<String, String> members, String name) throws IOException {
    return JSON.readValue(members.getOrDefault(name, "\"\""), String.class);
  }

  private static List<String> identifiers(String list) {
    List<String> names = new ArrayList<>();
    for (Matcher found = IDENTIFIER.matcher(list); found.find(); ) {
      names.add(found.group(2) != null ? found.group(2) : found.group(1).replace("\"\"", "\""));
    }
    return names;
  }

  /** The members of a JSON object, each value as the text that the object has. Null if it is not an object. */
  private static Map<String, String> members(String json) throws IOException {
    try (JsonParser parser = JSON.createParser(json)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        return null;
      }
      Map<String, String> members = new LinkedHashMap<>();
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        parser.nextToken();
        int start = (int) parser.currentTokenLocation().getCharOffset();
        parser.skipChildren();
        parser.finishToken();
        int end = (int) parser.currentLocation().getCharOffset();
        members.put(name, json.substring(start, end));
      }
      return members;
    }
  }

  /** The JSON object that has these members. */
  static String object(Map<String, String> members) throws IOException {
    List<String> texts = new ArrayList<>();
    for (Map.Entry<String, String> member : members.entrySet()) {
      texts.add(JSON.writeValueAsString(member.getKey()) + ":" + member.getValue());
    }
    return "{" + String.join(",", texts) + "}";
  }
}
