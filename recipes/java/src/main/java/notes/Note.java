package notes;

/** One note. The id is given by the store and never used twice. */
record Note(long id, String text) {
    String toJson() {
        return "{\"id\":" + id + ",\"text\":" + Json.quote(text) + "}";
    }
}
