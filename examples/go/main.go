// Ask for a forecast from Go: a stock Redis client, and the published schemas.
//
//	NVP_REDIS_URL=$(nvp account url ace-1) go run .
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const side, patience = 32, time.Minute

type object map[string]any

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	options := must(redis.ParseURL(os.Getenv("NVP_REDIS_URL")))
	client := redis.NewClient(options)
	key := "nvp:{" + options.Username + "}:" // the braces are part of the key

	id, raw := rand.Text(), field()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(raw))
	data := checked("nvp.prediction.requested.v1", object{
		"domain": "plasma_physics", "inline_answer": true,
		"field": object{"shape": []int{2, side, side}, "digest": digest, "inline": raw},
	})
	event := checked("cloudevent", object{
		"specversion": "1.0", "id": id, "source": "urn:example:go", "type": "nvp.prediction.requested.v1",
		"time": time.Now(), "deadline": time.Now().Add(patience),
		"budgetmj": "2000", "data": json.RawMessage(data), // millijoules, a decimal string
	})
	must(client.XAdd(ctx, &redis.XAddArgs{Stream: key + "predict", Values: []any{"event", event}}).Result())

	answers := map[string]string{} // kept for an hour in a hash of the request's own: event type -> event
	for ; len(answers) == 0; time.Sleep(50 * time.Millisecond) {
		answers = must(client.HGetAll(ctx, key+"reply:"+id).Result())
	}
	var reply struct { // what we want to know; the rest is ignored, so that the contract can grow
		Data struct {
			ModelID string `json:"model_id"`
			Energy  struct{ MJ float64 }
			Mean    struct {
				Shape  []int
				Inline []byte
			}
		}
	}
	completed, ok := answers["nvp.prediction.completed.v1"]
	if !ok {
		log.Fatal("no forecast: ", answers)
	}
	if err := json.Unmarshal([]byte(completed), &reply); err != nil {
		log.Fatal(err)
	}
	forecast, sum := make([]float32, len(reply.Data.Mean.Inline)/4), 0.0
	must(binary.Decode(reply.Data.Mean.Inline, binary.LittleEndian, forecast))
	for _, value := range forecast {
		sum += float64(value)
	}
	fmt.Printf("mean %.4f of %d x %d cells, %g J by %s\n", sum/float64(len(forecast)),
		reply.Data.Mean.Shape[0], reply.Data.Mean.Shape[1], reply.Data.Energy.MJ/1000, reply.Data.ModelID)
}

// field is two frames of a blob on its way to the right, the older one first: raw little-endian float32.
func field() []byte {
	var raw []byte
	for i := range 2 * side * side {
		frame, y, x := i/side/side, i/side%side, i%side
		square := math.Pow(float64(x-12-2*frame), 2) + math.Pow(float64(y-16), 2)
		raw = must(binary.Append(raw, binary.LittleEndian, float32(1+math.Exp(-square/18))))
	}
	return raw
}

// checked is the value as JSON, which fits the published schema of that name.
func checked(schema string, value any) []byte {
	raw := must(json.Marshal(value))
	contract := must(jsonschema.NewCompiler().Compile("../../schemas/" + schema + ".json"))
	if err := contract.Validate(must(jsonschema.UnmarshalJSON(bytes.NewReader(raw)))); err != nil {
		log.Fatal(err)
	}
	return raw
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
