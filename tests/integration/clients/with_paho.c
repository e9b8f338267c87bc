/* The exercise with paho C's synchronous client; see test_clients.py.  usage: with_paho_c URL */

#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const int WITHIN_MS = 10000;

static void must(int code, const char *what)
{
    if (code != MQTTCLIENT_SUCCESS) {
        fprintf(stderr, "%s: %d\n", what, code);
        exit(1);
    }
}

static MQTTClient connected(const char *url, const char *id, int clean, MQTTClient_willOptions *will)
{
    MQTTClient client;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    options.cleansession = clean;
    options.will = will;
    options.MQTTVersion = MQTTVERSION_3_1_1;
    must(MQTTClient_create(&client, url, id, MQTTCLIENT_PERSISTENCE_NONE, NULL), "create");
    must(MQTTClient_connect(client, &options), "connect");
    return client;
}

static void publish(MQTTClient client, const char *topic, const char *payload, int qos, int retained)
{
    MQTTClient_deliveryToken token;
    must(MQTTClient_publish(client, topic, (int)strlen(payload), payload, qos, retained, &token), "publish");
    must(MQTTClient_waitForCompletion(client, token, WITHIN_MS), "completion");
}

static void hear(MQTTClient client, int count, int first)
{
    for (int at = 0; at < count; at++) {
        char *topic = NULL;
        int length = 0;
        MQTTClient_message *message = NULL;
        must(MQTTClient_receive(client, &topic, &length, &message, WITHIN_MS), "receive");
        if (message == NULL) {
            fprintf(stderr, "nothing came\n");
            exit(1);
        }
        printf("%s[\"%s\", \"%.*s\", %d, %s]", at || !first ? ", " : "", topic, message->payloadlen,
               (char *)message->payload, message->qos, message->retained ? "true" : "false");
        MQTTClient_freeMessage(&message);
        MQTTClient_free(topic);
    }
}

static void leave(MQTTClient client)
{
    must(MQTTClient_disconnect(client, 1000), "disconnect");
    MQTTClient_destroy(&client);
}

/* A process of its own, so that its end takes the connection with it. */
static void live_and_die(const char *url)
{
    pid_t child = fork();
    if (child == 0) {
        MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
        will.topicName = "will";
        will.message = "gone";
        will.qos = 1;
        connected(url, "mortal", 1, &will);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int main(int count, char **arguments)
{
    if (count != 2)
        return 2;
    const char *url = arguments[1];
    live_and_die(url); /* before there are threads; nobody hears this one */
    MQTTClient watcher = connected(url, "watcher", 1, NULL);
    must(MQTTClient_subscribe(watcher, "echo/#", 2), "subscribe");
    for (int qos = 0; qos <= 2; qos++) {
        char topic[] = "echo/0";
        topic[5] = (char)('0' + qos);
        publish(watcher, topic, "hello", qos, 0);
    }
    printf("{\"echo\": [");
    hear(watcher, 3, 1);
    publish(watcher, "kept", "value", 1, 1);
    must(MQTTClient_subscribe(watcher, "kept", 1), "subscribe");
    printf("], \"kept\": [");
    hear(watcher, 1, 1);
    must(MQTTClient_unsubscribe(watcher, "kept"), "unsubscribe");
    publish(watcher, "kept", "", 1, 1);
    must(MQTTClient_subscribe(watcher, "will", 1), "subscribe");
    live_and_die(url);
    printf("], \"will\": [");
    hear(watcher, 1, 1);
    MQTTClient lasting = connected(url, "lasting", 0, NULL);
    must(MQTTClient_subscribe(lasting, "session", 2), "subscribe");
    leave(lasting);
    publish(watcher, "session", "one", 1, 0);
    publish(watcher, "session", "two", 2, 0);
    lasting = connected(url, "lasting", 0, NULL);
    printf("], \"session\": [");
    hear(lasting, 2, 1);
    printf("]}\n");
    leave(lasting);
    leave(watcher);
    return 0;
}
